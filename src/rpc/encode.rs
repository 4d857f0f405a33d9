//! Results to messages.

use std::time::Duration;

use super::pb;
use crate::{
    config::Strategy,
    domain::{
        audit::EventAudit,
        caller::Actor,
        change::{Change, ChangeKind, Subject},
        contention::Advice,
        event::{Event, EventState},
        reservation::{Reservation, State},
        time::Timestamp,
        waitlist::{Entry, EntryState, Policy},
    },
    ops::{
        contention::{EventContention, Tally},
        execute::Answer,
        feed::Counts,
    },
    store::events::Availability,
};

pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    // Less than a million, times a thousand: an i32 has room.
    let nanos = micros.rem_euclid(1_000_000) as i32 * 1000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos().cast_signed(),
    }
}

pub fn strategy(strategy: Strategy) -> pb::Strategy {
    match strategy {
        Strategy::Pessimistic => pb::Strategy::Pessimistic,
        Strategy::Optimistic => pb::Strategy::Optimistic,
        Strategy::Coalesced => pb::Strategy::Coalesced,
    }
}

pub fn event_state(state: EventState) -> pb::EventState {
    match state {
        EventState::Open => pb::EventState::Open,
        EventState::Closed => pb::EventState::Closed,
        EventState::Cancelled => pb::EventState::Cancelled,
    }
}

fn reservation_state(state: State) -> pb::ReservationState {
    match state {
        State::Held => pb::ReservationState::Held,
        State::Confirmed => pb::ReservationState::Confirmed,
        State::Cancelled => pb::ReservationState::Cancelled,
        State::Expired => pb::ReservationState::Expired,
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

pub fn reservation(reservation: &Reservation) -> pb::Reservation {
    pb::Reservation {
        reservation_id: reservation.id.to_string(),
        event_id: reservation.event_id.to_string(),
        user_id: reservation.user_id.to_string(),
        quantity: reservation.quantity.cast_signed(),
        state: reservation_state(reservation.state).into(),
        create_time: Some(timestamp(reservation.create_time)),
        update_time: Some(timestamp(reservation.update_time)),
        expire_time: reservation.expire_time.map(timestamp),
        confirm_time: reservation.confirm_time.map(timestamp),
        extensions: reservation.extensions.cast_signed(),
        cancel_reason: reservation.cancel_reason.clone().unwrap_or_default(),
        labels: reservation.labels.0.clone(),
        version: reservation.version,
        etag: reservation.etag(),
        from_waitlist: reservation.id.is_from_waitlist(),
    }
}

fn entry_state(state: EntryState) -> pb::WaitlistEntryState {
    match state {
        EntryState::Waiting => pb::WaitlistEntryState::Waiting,
        EntryState::Promoted => pb::WaitlistEntryState::Promoted,
        EntryState::Left => pb::WaitlistEntryState::Left,
        EntryState::Ended => pb::WaitlistEntryState::Ended,
    }
}

pub fn waitlist_entry(entry: &Entry) -> pb::WaitlistEntry {
    pb::WaitlistEntry {
        entry_id: entry.id.to_string(),
        event_id: entry.event_id.to_string(),
        user_id: entry.user_id.to_string(),
        quantity: entry.quantity.cast_signed(),
        min_quantity: entry.min_quantity.cast_signed(),
        state: entry_state(entry.state).into(),
        ticket: entry.ticket,
        skips: entry.skips.cast_signed(),
        labels: entry.labels.0.clone(),
        create_time: Some(timestamp(entry.create_time)),
        update_time: Some(timestamp(entry.update_time)),
        version: entry.version,
        etag: entry.etag(),
    }
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

pub fn execution(outcome: &Answer) -> pb::ExecutionReport {
    let effort = &outcome.stats;
    pb::ExecutionReport {
        strategy: strategy(effort.strategy).into(),
        attempts: i32::try_from(effort.attempts).unwrap_or(i32::MAX),
        lock_wait: Some(duration(effort.lock_wait)),
        event_version: outcome.change.version,
        replayed: outcome.replayed,
        batch_size: effort.batch_size.cast_signed(),
    }
}

pub fn contention(found: &EventContention) -> pb::EventContention {
    let by_strategy = |(used, tally): &(Strategy, Tally)| pb::StrategyContention {
        strategy: strategy(*used).into(),
        commands: tally.commands.cast_signed(),
        version_conflicts: tally.conflicts.cast_signed(),
        retries: tally.retries.cast_signed(),
        wait_total: Some(duration(tally.waited.0)),
        wait_max: Some(duration(tally.waited.1)),
        batch_size_mean: tally.batch_size.0 as f64 / tally.commands.max(1) as f64,
        batch_size_max: tally.batch_size.1.cast_signed(),
    };
    let best = match found.advice {
        Advice::Coalesced => pb::Strategy::Coalesced,
        Advice::Pessimistic => pb::Strategy::Pessimistic,
        Advice::Optimistic => pb::Strategy::Optimistic,
    };
    pb::EventContention {
        event_id: found.event_id.to_string(),
        strategies: found.by_strategy.iter().map(by_strategy).collect(),
        best_strategy: best.into(),
    }
}

fn change_kind(kind: ChangeKind) -> pb::ChangeKind {
    match kind {
        ChangeKind::EventCreated => pb::ChangeKind::EventCreated,
        ChangeKind::EventUpdated => pb::ChangeKind::EventUpdated,
        ChangeKind::EventOpened => pb::ChangeKind::EventOpened,
        ChangeKind::EventClosed => pb::ChangeKind::EventClosed,
        ChangeKind::EventCancelled => pb::ChangeKind::EventCancelled,
        ChangeKind::Held => pb::ChangeKind::Held,
        ChangeKind::Confirmed => pb::ChangeKind::Confirmed,
        ChangeKind::Extended => pb::ChangeKind::Extended,
        ChangeKind::Amended => pb::ChangeKind::Amended,
        ChangeKind::Reduced => pb::ChangeKind::Reduced,
        ChangeKind::Cancelled => pb::ChangeKind::Cancelled,
        ChangeKind::Expired => pb::ChangeKind::Expired,
        ChangeKind::WaitlistJoined => pb::ChangeKind::WaitlistJoined,
        ChangeKind::WaitlistPromoted => pb::ChangeKind::WaitlistPromoted,
        ChangeKind::WaitlistLeft => pb::ChangeKind::WaitlistLeft,
        ChangeKind::WaitlistEnded => pb::ChangeKind::WaitlistEnded,
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

/// A change as everyone is told of it, whichever way.
pub fn change(change: &Change) -> pb::Change {
    pb::Change {
        event_id: change.event_id().to_string(),
        version: change.version,
        kind: change_kind(change.kind).into(),
        change_time: Some(timestamp(change.time)),
        request_id: change.request.as_ref().map(|request| request.id.said().to_owned()).unwrap_or_default(),
        actor: change.actor.as_ref().map(Actor::to_string).unwrap_or_default(),
        subject: Some(match &change.subject {
            Subject::Reservation(it) => pb::change::Subject::Reservation(reservation(it)),
            Subject::Event(record) => pb::change::Subject::Event(event(&record.event)),
            Subject::Entry(entry) => pb::change::Subject::Entry(waitlist_entry(entry)),
        }),
    }
}

/// The reservation that a mutation of a reservation answers with.
pub fn changed_reservation(change: &Change) -> Option<pb::Reservation> {
    change.reservation().map(reservation)
}

/// The entry that a mutation of the waitlist answers with.
pub fn changed_entry(change: &Change) -> Option<pb::WaitlistEntry> {
    change.entry().map(waitlist_entry)
}

/// The event that a mutation of an event answers with.
pub fn changed_event(change: &Change) -> Option<pb::Event> {
    change.event().map(|record| event(&record.event))
}
