//! Events, their availability and their audit.

use super::value::{duration, signed_duration, timestamp};
use crate::{
    domain::{
        audit::EventAudit,
        booking_close::{Anchor, RelativeTime},
        event::{Counters, Event, EventState},
        waitlist::Policy,
    },
    rpc::pb,
    store::{event_counts::Sample, events::Availability},
};

pub fn event_state(state: EventState) -> pb::EventState {
    match state {
        EventState::Open => pb::EventState::Open,
        EventState::Closed => pb::EventState::Closed,
        EventState::Cancelled => pb::EventState::Cancelled,
        EventState::Deleted => pb::EventState::Deleted,
    }
}

/// An event, with the units of its holds that have lapsed, where they were looked at.
pub fn event(event: &Event, lapsed: Option<u32>) -> pb::Event {
    let definition = event.definition.clone();
    let limits = definition.limits;
    let (close, close_time) = (definition.booking_close, definition.booking_close_time());
    pb::Event {
        event_id: event.id.to_string(),
        display_name: definition.display_name,
        series_id: definition.series_id.map(String::from).unwrap_or_default(),
        series_display_name: definition.series_display_name,
        venue_id: definition.venue_id.map(String::from).unwrap_or_default(),
        venue_display_name: definition.venue_display_name,
        start_time: definition.start_time.map(timestamp),
        end_time: definition.end_time.map(timestamp),
        capacity: definition.capacity.cast_signed(),
        limits: Some(pb::EventLimits {
            max_quantity: Some(limits.max_quantity.cast_signed()),
            hold_ttl_default: Some(duration(limits.hold_ttl_default())),
            hold_ttl_max: Some(duration(limits.hold_ttl_max())),
            max_extensions: Some(limits.max_extensions.cast_signed()),
        }),
        booking_open_time: definition.booking_open_time.map(timestamp),
        booking_close_time: close_time.map(timestamp),
        booking_close: close.relative().map(booking_close),
        labels: definition.labels.0,
        state: event_state(event.state).into(),
        counts: Some(counts(definition.capacity, event.counters, lapsed)),
        version: event.counters.version,
        definition_version: event.definition_version,
        etag: event.etag(),
        create_time: Some(timestamp(event.create_time)),
        update_time: Some(timestamp(event.update_time)),
        cancel_reason: event.cancel_reason.clone().unwrap_or_default(),
        waitlist: waitlist_policy(&definition.waitlist),
    }
}

/// The rule from which the time follows.
pub fn booking_close(time: RelativeTime) -> pb::BookingClose {
    use pb::booking_close::Rule;
    let offset = signed_duration(time.offset());
    let rule = match time.anchor {
        Anchor::Start => Rule::StartOffset(offset),
        Anchor::End => Rule::EndOffset(offset),
    };
    pb::BookingClose { rule: Some(rule) }
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
        join_before_booking: policy.join_before_booking,
    })
}

/// How much of an event is taken, with the units of its holds that have lapsed, where they were looked at.
pub fn counts(capacity: u32, counters: Counters, lapsed: Option<u32>) -> pb::EventCounts {
    let taken = counters.reserved().saturating_sub(lapsed.unwrap_or(0));
    pb::EventCounts {
        capacity: capacity.cast_signed(),
        held: counters.held.cast_signed(),
        lapsed: lapsed.map(u32::cast_signed),
        confirmed: counters.confirmed.cast_signed(),
        available: capacity.saturating_sub(taken).cast_signed(),
        waiting: counters.waiting.cast_signed(),
    }
}

pub fn availability(found: &Availability) -> pb::Availability {
    let event = &found.event;
    pb::Availability {
        event_id: event.id.to_string(),
        state: event_state(event.state).into(),
        counts: Some(counts(event.definition.capacity, event.counters, Some(found.lapsed))),
        next_hold_expire_time: found.next_lapse.map(|(time, _)| timestamp(time)),
        next_hold_quantity: found.next_lapse.map_or(0, |(_, quantity)| quantity.cast_signed()),
        event_version: event.counters.version,
    }
}

pub fn sample(sample: &Sample) -> pb::EventCountsSample {
    pb::EventCountsSample {
        sample_time: Some(timestamp(sample.time)),
        counts: Some(counts(sample.capacity, sample.counters, None)),
        event_version: sample.counters.version,
    }
}

pub fn audit(audit: &EventAudit) -> pb::VerifyEventResponse {
    let problems = audit.problems();
    let check = |name: &str, recorded, counted| pb::CounterCheck { name: name.to_owned(), recorded, counted };
    pb::VerifyEventResponse {
        ok: problems.is_empty(),
        problems,
        checks: vec![
            check("held", audit.held, audit.held_rows),
            check("confirmed", audit.confirmed, audit.confirmed_rows),
            check("waiting", audit.waiting, audit.waiting_rows),
            check("version", audit.version, audit.newest_change),
        ],
        event_version: audit.version,
        lapsed: audit.lapsed_rows,
    }
}
