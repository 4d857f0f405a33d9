//! Tests of a waitlist that is read in part.

use uuid::Uuid;

use super::*;

fn entry(ticket: i64, user: &str, state: EntryState) -> Entry {
    Entry {
        id: ReservationId(Uuid::from_u128(ticket.unsigned_abs().into())),
        event_id: EventId::parse("event").expect("valid"),
        user_id: UserId::parse(user).expect("valid"),
        quantity: 2,
        min_quantity: 1,
        state,
        ticket,
        skips: 0,
        labels: Labels::default(),
        version: ticket,
        create_time: Timestamp::MIN,
        update_time: Timestamp::MIN,
    }
}

#[test]
fn a_users_name_stands_for_the_waiting_entry_or_else_the_newest() {
    let ann = Target::User(UserId::parse("ann").expect("valid"));
    let mut queue = Queue::default();
    for (ticket, state, found) in
        [(3, EntryState::Left, 3), (9, EntryState::Promoted, 9), (5, EntryState::Waiting, 5), (7, EntryState::Left, 5)]
    {
        queue.add(entry(ticket, "ann", state));
        assert_eq!(queue.find(&ann).map(|entry| entry.ticket), Some(found));
    }
    queue.advance(entry(5, "ann", EntryState::Left));
    assert_eq!(queue.waiting().count(), 0);
}

#[test]
fn what_is_loaded_again_does_not_bring_back_who_left() {
    let mut queue = Queue::default();
    queue.add(entry(1, "ann", EntryState::Waiting));
    queue.advance(entry(1, "ann", EntryState::Promoted));
    queue.add(entry(1, "ann", EntryState::Waiting));
    assert_eq!(queue.waiting().count(), 0);
}

#[test]
fn a_queue_is_loaded_again_when_more_is_given_out_than_it_was_loaded_for() {
    let mut queue = Queue::default();
    assert_eq!(queue.units_to_load(2, 0, false), None, "no entry waits");
    assert_eq!(queue.units_to_load(2, 5, false), Some(2));
    queue.has_loaded(&Needs { queue: Some(2), ..Needs::default() }, false);
    queue.add(entry(1, "ann", EntryState::Waiting));
    queue.add(entry(2, "bob", EntryState::Waiting));
    assert_eq!(queue.units_to_load(2, 5, false), None);
    queue.advance(entry(1, "ann", EntryState::Promoted));
    assert_eq!(queue.units_to_load(1, 4, false), Some(4), "for the two that were given out, and as many more");
    assert_eq!(queue.units_to_load(1, 1, false), None, "every waiting entry is known");
}

#[test]
fn a_queue_that_skips_is_read_by_size_too() {
    let mut queue = Queue::default();
    queue.has_loaded(&Needs { queue: Some(2), ..Needs::default() }, false);
    assert_eq!(queue.units_to_load(2, 5, false), None);
    assert_eq!(queue.units_to_load(2, 5, true), Some(2), "its policy allows skips only now");
}
