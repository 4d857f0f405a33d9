//! Join, Leave and promotion: the life of a waitlist entry.

use super::{
    draft::Draft,
    reservation::at_most,
    reserve::{check_open, check_quantity, release_own},
};
use crate::domain::{
    command::Join,
    commit::Commit,
    event::EventState,
    ids::Target,
    refusal::Refusal,
    reservation::Reservation,
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::{Entry, EntryState},
};

/// Refuses a Join where places are free and no entry waits: the user can reserve. Before booking opens nobody can, so
/// an early Join needs no more than a policy that allows it.
pub(super) fn join(draft: &mut Draft<'_>, wish: &Join) -> Result<(), Refusal> {
    let (event, now) = (&draft.snapshot.event, draft.now);
    let policy = event.definition.waitlist;
    let is_early = policy.join_before_booking && event.is_before_booking(now);
    if !is_early {
        check_open(event, now)?;
    }
    if !policy.enabled {
        return Err(Refusal::WaitlistClosed);
    }
    check_quantity(event, wish.quantity)?;
    let capacity = event.definition.capacity;
    if wish.min_quantity > capacity {
        return Err(Refusal::QuantityLimit { asked: wish.min_quantity, limit: capacity });
    }
    release_own(draft, &wish.user_id)?;
    let known = draft.snapshot.queue.find(&Target::User(wish.user_id.clone()));
    if let Some(entry) = known.filter(|entry| entry.waits()) {
        return Err(Refusal::AlreadyWaiting(Some(entry.id)));
    }
    let waiting = event.counters.waiting;
    if !is_early && waiting == 0 && draft.reclaim(wish.min_quantity) {
        return Err(Refusal::NotSoldOut { asked: wish.quantity, available: draft.available() });
    }
    if waiting >= policy.max_size {
        return Err(Refusal::WaitlistFull { limit: policy.max_size });
    }
    draft.rests_on(event.definition.booking_open_time.filter(|_| is_early));
    draft.rests_on(event.definition.booking_close_time());
    draft.join(Entry {
        id: wish.id,
        event_id: event.id.clone(),
        user_id: wish.user_id.clone(),
        quantity: wish.quantity,
        min_quantity: wish.min_quantity,
        state: EntryState::Waiting,
        ticket: 0,
        skips: 0,
        labels: wish.labels.clone(),
        version: 0,
        create_time: now,
        update_time: now,
    });
    Ok(())
}

pub(super) fn leave(draft: &mut Draft<'_>, entry: &Entry) {
    draft.leave(entry);
}

/// A party may become smaller, never larger: a larger one would keep a place that it did not wait for.
pub(super) fn amend(
    draft: &mut Draft<'_>,
    old: &Entry,
    quantity: Option<u32>,
    min_quantity: Option<u32>,
) -> Result<(), Refusal> {
    let quantity = at_most(quantity.unwrap_or(old.quantity), old.quantity)?;
    let min_quantity = at_most(min_quantity.unwrap_or(old.min_quantity.min(quantity)), quantity)?;
    draft.amend_entry(Entry { quantity, min_quantity, ..old.clone() });
    Ok(())
}

/// Makes an offer to an entry that others are ahead of, also while the event takes no reservations: so an operator can
/// close the event, free units, and choose who gets them.
pub(super) fn promote_out_of_turn(draft: &mut Draft<'_>, entry: &Entry, reason: &str) -> Result<(), Refusal> {
    let (state, asked) = (draft.snapshot.event.state, entry.min_quantity);
    if state == EventState::Cancelled {
        return Err(Refusal::EventState(state));
    }
    if !draft.reclaim(asked) {
        let (available, next_hold_expiry) = (draft.available(), draft.snapshot.next_hold_expiry);
        return Err(Refusal::SoldOut { asked, available, next_hold_expiry });
    }
    draft.promote_for(reason, entry, offer(draft, entry));
    Ok(())
}

/// The hold that an entry becomes, of as many units as are free and wanted.
fn offer(draft: &Draft<'_>, entry: &Entry) -> Reservation {
    let (event, now) = (&draft.snapshot.event, draft.now);
    let ttl = event.definition.waitlist.offer_ttl.unwrap_or(event.definition.limits.hold_ttl_default());
    // The limit may have been lowered since the user joined.
    let quantity = entry.quantity.min(draft.available()).min(event.definition.limits.max_quantity);
    let offer = Reservation {
        labels: entry.labels.clone(),
        ..Reservation::new(entry.id, event.id.clone(), entry.user_id.clone(), quantity, now)
    };
    offer.held_until(now.after(ttl))
}

/// Ends the entries that accept no fewer units than one reservation can have at the most. They could never be promoted,
/// and would block all others.
pub(super) fn end_impossible(draft: &mut Draft<'_>, largest_reservation: u32) {
    let snapshot = draft.snapshot;
    for entry in snapshot.queue.waiting().filter(|entry| entry.min_quantity > largest_reservation) {
        draft.dismiss(entry);
    }
}

/// Promotes the next entry, if one fits the free units and it is its turn. It is called after every decision until it
/// returns none, and the promotions are written in the same commit. So no unit stays free while it fits an entry whose
/// turn it is.
///
/// The queue must be known well enough for the units that are free; [`promotions`](super::promotions) sees to that.
pub fn promote(snapshot: &Snapshot, now: Timestamp) -> Option<Commit> {
    let event = &snapshot.event;
    if !event.may_promote(now) {
        return None;
    }
    let free = event.available();
    let first = snapshot.queue.waiting().next()?;
    let next = if first.min_quantity <= free {
        first
    } else if first.skips < event.definition.waitlist.max_skips {
        snapshot.queue.waiting().find(|entry| entry.min_quantity <= free)?
    } else {
        return None;
    };

    let mut draft = Draft::new(snapshot, None, now);
    draft.rests_on(event.definition.booking_close_time());
    if next.id != first.id {
        draft.pass_over(first);
    }
    draft.promote(next, offer(&draft, next));
    Some(draft.finish())
}
