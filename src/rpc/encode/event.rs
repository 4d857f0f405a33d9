//! Events, their availability and their audit.

use super::value::{duration, timestamp};
use crate::{
    domain::{
        audit::EventAudit,
        event::{Event, EventState},
        waitlist::Policy,
    },
    ops::feed::Counts,
    rpc::pb,
    store::events::Availability,
};

fn event_state(state: EventState) -> pb::EventState {
    match state {
        EventState::Open => pb::EventState::Open,
        EventState::Closed => pb::EventState::Closed,
        EventState::Cancelled => pb::EventState::Cancelled,
    }
}

pub fn event(event: &Event) -> pb::Event {
    let definition = event.definition.clone();
    let limits = definition.limits;
    pb::Event {
        event_id: event.id.to_string(),
        display_name: definition.display_name,
        series: definition.series.unwrap_or_default(),
        venue: definition.venue.unwrap_or_default(),
        start_time: definition.start_time.map(timestamp),
        end_time: definition.end_time.map(timestamp),
        capacity: definition.capacity.cast_signed(),
        limits: Some(pb::EventLimits {
            max_quantity: Some(limits.max_quantity.cast_signed()),
            hold_ttl_default: Some(duration(limits.hold_ttl_default)),
            hold_ttl_max: Some(duration(limits.hold_ttl_max)),
            max_extensions: Some(limits.max_extensions.cast_signed()),
        }),
        booking_open_time: definition.booking_open_time.map(timestamp),
        booking_close_time: definition.booking_close_time.map(timestamp),
        labels: definition.labels.0,
        state: event_state(event.state).into(),
        held: event.counters.held.cast_signed(),
        confirmed: event.counters.confirmed.cast_signed(),
        available: event.available().cast_signed(),
        version: event.counters.version,
        etag: event.etag(),
        create_time: Some(timestamp(event.create_time)),
        update_time: Some(timestamp(event.update_time)),
        cancel_reason: event.cancel_reason.clone().unwrap_or_default(),
        waitlist: waitlist_policy(&definition.waitlist),
        waiting: event.counters.waiting.cast_signed(),
    }
}

/// None for an event without a waitlist.
fn waitlist_policy(policy: &Policy) -> Option<pb::WaitlistPolicy> {
    if *policy == Policy::default() {
        return None;
    }
    let skips = policy.max_skips > 0;
    let order = if skips { pb::WaitlistOrder::SkipTooLarge } else { pb::WaitlistOrder::StrictFifo };
    Some(pb::WaitlistPolicy {
        enabled: policy.enabled,
        max_size: Some(policy.max_size.cast_signed()),
        offer_ttl: policy.offer_ttl.map(duration),
        order: order.into(),
        max_skips: skips.then_some(policy.max_skips.cast_signed()),
        newcomers_may_overtake: policy.newcomers_may_overtake,
    })
}

pub fn availability(found: &Availability) -> pb::Availability {
    let event = &found.event;
    let held = event.counters.held.saturating_sub(found.lapsed);
    let available = event.definition.capacity.saturating_sub(held + event.counters.confirmed);
    pb::Availability {
        event_id: event.id.to_string(),
        state: event_state(event.state).into(),
        capacity: event.definition.capacity.cast_signed(),
        held: held.cast_signed(),
        confirmed: event.counters.confirmed.cast_signed(),
        available: available.cast_signed(),
        next_hold_expire_time: found.next_hold_expiry.map(timestamp),
        event_version: event.counters.version,
        etag: event.etag(),
        waiting: event.counters.waiting.cast_signed(),
    }
}

pub fn counts(counts: &Counts) -> pb::EventCounts {
    let Counts { state, capacity, counters } = *counts;
    pb::EventCounts {
        state: event_state(state).into(),
        capacity: capacity.cast_signed(),
        held: counters.held.cast_signed(),
        confirmed: counters.confirmed.cast_signed(),
        available: capacity.saturating_sub(counters.reserved()).cast_signed(),
    }
}

pub fn audit(audit: &EventAudit) -> pb::VerifyEventResponse {
    let problems = audit.problems();
    pb::VerifyEventResponse {
        ok: problems.is_empty(),
        problems,
        capacity: audit.capacity.cast_signed(),
        held_counter: audit.held,
        held_rows: audit.held_rows,
        confirmed_counter: audit.confirmed,
        confirmed_rows: audit.confirmed_rows,
        lapsed_rows: audit.lapsed_rows,
        event_version: audit.version,
        newest_change: audit.newest_change,
        waiting_counter: audit.waiting,
        waiting_rows: audit.waiting_rows,
    }
}
