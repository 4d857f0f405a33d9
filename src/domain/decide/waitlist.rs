//! Join, Leave and promotion: the life of a waitlist entry.

use super::{
    draft::Draft,
    reserve::{check_open, check_quantity, release_own},
};
use crate::domain::{
    command::Join,
    commit::Commit,
    ids::Target,
    refusal::Refusal,
    reservation::Reservation,
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::{Entry, EntryState},
};

/// Refuses a Join where places are free and no entry waits: the user can reserve.
pub(super) fn join(draft: &mut Draft<'_>, wish: &Join) -> Result<(), Refusal> {
    let (event, now) = (&draft.snapshot.event, draft.now);
    check_open(event, now)?;
    let policy = event.definition.waitlist;
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
    if waiting == 0 && draft.reclaim(wish.min_quantity) {
        return Err(Refusal::NotSoldOut { asked: wish.quantity, available: draft.available() });
    }
    if waiting >= policy.max_size {
        return Err(Refusal::WaitlistFull { limit: policy.max_size });
    }
    draft.rests_on(event.definition.booking_close_time);
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

pub(super) fn leave(draft: &mut Draft<'_>, entry: &Entry) -> Result<(), Refusal> {
    if !entry.waits() {
        return Err(Refusal::NotWaiting(entry.state));
    }
    draft.leave(entry);
    Ok(())
}

/// Ends the entries whose party is larger than the event's new capacity. They could never be promoted, and would block
/// all others.
pub(super) fn end_impossible(draft: &mut Draft<'_>, capacity: u32) {
    let snapshot = draft.snapshot;
    for entry in snapshot.queue.waiting().filter(|entry| entry.min_quantity > capacity) {
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
    draft.rests_on(event.definition.booking_close_time);
    if next.id != first.id {
        draft.pass_over(first);
    }
    let ttl = event.definition.waitlist.offer_ttl.unwrap_or(event.definition.limits.hold_ttl_default);
    let quantity = next.quantity.min(free);
    let offer = Reservation {
        labels: next.labels.clone(),
        ..Reservation::new(next.id, event.id.clone(), next.user_id.clone(), quantity, now)
    };
    draft.promote(next, offer.held_until(now.after(ttl)));
    Some(draft.finish())
}
