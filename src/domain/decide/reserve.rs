//! Reserve: are enough units free, and may this user have them?

use std::time::Duration;

use super::draft::Draft;
use crate::domain::{
    change::ChangeKind,
    command::{Reserve, ReserveMode},
    event::Event,
    ids::{Target, UserId},
    refusal::Refusal,
    reservation::Reservation,
    time::Timestamp,
};

/// `hold_limit` is the limit of the user's live holds across events, if it is reached.
pub(super) fn reserve(draft: &mut Draft<'_>, wish: &Reserve, hold_limit: Option<u32>) -> Result<(), Refusal> {
    let (event, now) = (&draft.snapshot.event, draft.now);
    check_open(event, now)?;
    check_quantity(event, wish.quantity)?;
    let expire_time = match wish.mode {
        ReserveMode::Hold(ttl) => Some(now.after(hold_ttl(event, ttl, "hold_ttl")?)),
        ReserveMode::Confirm => None,
    };

    release_own(draft, &wish.user_id)?;
    if let Some(limit) = hold_limit.filter(|_| expire_time.is_some()) {
        return Err(Refusal::HoldLimit(limit));
    }
    take(draft, wish.quantity)?;
    // A waiting user reserves like any newcomer, and then leaves the waitlist.
    let own = draft.snapshot.queue.find(&Target::User(wish.user_id.clone()));
    if let Some(entry) = own.filter(|entry| entry.waits()) {
        draft.step_out(entry);
    }

    draft.rests_on(event.definition.booking_close_time());
    let new = Reservation {
        labels: wish.labels.clone(),
        ..Reservation::new(wish.id, event.id.clone(), wish.user_id.clone(), wish.quantity, now)
    };
    match expire_time {
        Some(expire_time) => draft.create(ChangeKind::ReservationHeld, new.held_until(expire_time)),
        None => draft.create(ChangeKind::ReservationConfirmed, new),
    }
    Ok(())
}

/// Refuses a user who has a live reservation. The user's own lapsed hold blocks the new reservation until it is
/// released.
pub(super) fn release_own(draft: &mut Draft<'_>, user_id: &UserId) -> Result<(), Refusal> {
    let own = draft.snapshot.find(&Target::User(user_id.clone()));
    match own.filter(|own| own.state.is_live()) {
        Some(own) if own.has_lapsed(draft.now) => draft.release(own),
        Some(own) => return Err(Refusal::AlreadyReserved(Some(own.id))),
        None => {}
    }
    Ok(())
}

/// Makes sure that `units` are free and no waiting entry has a claim on them, releasing lapsed holds where that helps.
pub(super) fn take(draft: &mut Draft<'_>, units: u32) -> Result<(), Refusal> {
    let event = &draft.snapshot.event;
    let waiting = event.counters.waiting;
    if waiting > 0 && !event.definition.waitlist.newcomers_may_overtake {
        return Err(Refusal::WaitlistAhead { asked: units, waiting });
    }
    if draft.reclaim(units) {
        return Ok(());
    }
    Err(Refusal::SoldOut {
        asked: units,
        available: draft.available(),
        next_hold_expiry: draft.snapshot.next_hold_expiry,
    })
}

pub(super) fn check_open(event: &Event, now: Timestamp) -> Result<(), Refusal> {
    if event.is_open(now) {
        return Ok(());
    }
    let times = &event.definition;
    Err(Refusal::EventNotOpen {
        state: event.state,
        opens: times.booking_open_time.filter(|opens| now < *opens),
        closed: times.booking_close_time().filter(|closes| *closes <= now),
    })
}

pub(super) fn check_quantity(event: &Event, asked: u32) -> Result<(), Refusal> {
    let limit = event.definition.limits.max_quantity;
    if asked <= limit { Ok(()) } else { Err(Refusal::QuantityLimit { asked, limit }) }
}

pub(super) fn hold_ttl(event: &Event, asked: Option<Duration>, field: &'static str) -> Result<Duration, Refusal> {
    let limits = &event.definition.limits;
    let ttl = asked.unwrap_or(limits.hold_ttl_default());
    let limit = limits.hold_ttl_max();
    if ttl <= limit { Ok(ttl) } else { Err(Refusal::TtlLimit { field, limit }) }
}
