//! Confirm, Cancel, Extend, Amend and expiry: the later life of a reservation.

use std::time::Duration;

use super::{
    draft::Draft,
    reserve::{check_open, check_quantity, hold_ttl, take},
};
use crate::domain::{
    change::ChangeKind,
    ids::{ReservationId, Target},
    limits::Labels,
    refusal::Refusal,
    reservation::{Reservation, State},
    time::Timestamp,
};

/// Refuses reservations that have ended, and lapsed holds whether or not they are released yet: the answer does not
/// depend on whether the expiry worker came first.
pub(super) fn check_live(reservation: &Reservation, now: Timestamp) -> Result<(), Refusal> {
    match (reservation.state, reservation.expire_time) {
        (State::Held, Some(end)) if reservation.has_lapsed(now) => Err(Refusal::HoldExpired(end)),
        (State::Expired, Some(end)) => Err(Refusal::HoldExpired(end)),
        (state, _) if state.is_live() => Ok(()),
        (state, _) => Err(Refusal::NotLive(state)),
    }
}

pub(super) fn confirm(draft: &mut Draft<'_>, hold: &Reservation, quantity: Option<u32>) -> Result<(), Refusal> {
    check_held(hold)?;
    let quantity = at_most(quantity.unwrap_or(hold.quantity), hold.quantity)?;
    draft.rests_on(hold.expire_time);
    let after = Reservation {
        state: State::Confirmed,
        quantity,
        expire_time: None,
        confirm_time: Some(draft.now),
        ..hold.clone()
    };
    draft.change(ChangeKind::ReservationConfirmed, hold.weight(), after);
    Ok(())
}

pub(super) fn cancel(
    draft: &mut Draft<'_>,
    old: &Reservation,
    quantity: Option<u32>,
    reason: Option<&str>,
) -> Result<(), Refusal> {
    let given_up = at_most(quantity.unwrap_or(old.quantity), old.quantity)?;
    draft.rests_on(old.expire_time);
    let mut after = old.clone();
    after.cancel_reason = reason.map(str::to_owned).or(after.cancel_reason);
    let kind = if given_up < old.quantity {
        after.quantity -= given_up;
        ChangeKind::ReservationReduced
    } else {
        after.state = State::Cancelled;
        after.expire_time = None;
        ChangeKind::ReservationCancelled
    };
    draft.change(kind, old.weight(), after);
    Ok(())
}

pub(super) fn extend(draft: &mut Draft<'_>, hold: &Reservation, ttl: Option<Duration>) -> Result<(), Refusal> {
    check_held(hold)?;
    let event = &draft.snapshot.event;
    let end = Some(draft.now.after(hold_ttl(event, ttl, "ttl")?));
    let mut after = hold.clone();
    // One that would end the hold earlier leaves it as it is, and is not counted.
    if end > hold.expire_time {
        let limit = event.definition.limits.max_extensions;
        if hold.extensions >= limit {
            return Err(Refusal::ExtensionLimit(limit));
        }
        after.expire_time = end;
        after.extensions += 1;
    }
    draft.rests_on(hold.expire_time);
    draft.change(ChangeKind::ReservationExtended, hold.weight(), after);
    Ok(())
}

pub(super) fn amend(
    draft: &mut Draft<'_>,
    old: &Reservation,
    quantity: Option<u32>,
    labels: Option<&Labels>,
) -> Result<(), Refusal> {
    let event = &draft.snapshot.event;
    let quantity = quantity.unwrap_or(old.quantity);
    // A reservation above a limit that was lowered later may stay as it is or shrink.
    if let Some(more) = quantity.checked_sub(old.quantity).filter(|more| *more > 0) {
        check_open(event, draft.now)?;
        check_quantity(event, quantity)?;
        take(draft, more)?;
        draft.rests_on(event.definition.booking_close_time());
    }
    draft.rests_on(old.expire_time);
    let after = Reservation { quantity, labels: labels.unwrap_or(&old.labels).clone(), ..old.clone() };
    draft.change(ChangeKind::ReservationAmended, old.weight(), after);
    Ok(())
}

pub(super) fn expire(draft: &mut Draft<'_>, id: ReservationId) -> Result<(), Refusal> {
    let hold = draft.snapshot.find(&Target::Id(id)).ok_or(Refusal::ReservationNotFound)?;
    match hold.state {
        State::Held if hold.has_lapsed(draft.now) => draft.release(hold),
        State::Held | State::Confirmed => return Err(Refusal::NotHeld),
        State::Cancelled | State::Expired => return Err(Refusal::NotLive(hold.state)),
    }
    Ok(())
}

fn check_held(reservation: &Reservation) -> Result<(), Refusal> {
    if reservation.state == State::Held { Ok(()) } else { Err(Refusal::NotHeld) }
}

/// Refuses more units than these.
pub(super) fn at_most(asked: u32, limit: u32) -> Result<u32, Refusal> {
    if asked <= limit { Ok(asked) } else { Err(Refusal::QuantityLimit { asked, limit }) }
}
