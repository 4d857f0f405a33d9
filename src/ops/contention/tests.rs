//! Tests of `contention`.

use super::*;

fn event(number: usize) -> EventId {
    EventId::parse(&format!("event-{number}")).expect("valid")
}

fn waited(millis: u64) -> Tally {
    let time = Duration::from_millis(millis);
    Tally { commands: 1, waited: (time, time), ..Tally::default() }
}

#[test]
fn of_a_slot_that_is_over_the_hottest_events_are_kept() {
    let mut slots = Slots::default();
    for number in 0..MAX_EVENTS {
        slots.note(1, &event(number), Strategy::Coalesced, &waited(number as u64));
        slots.note(1, &event(number), Strategy::Optimistic, &waited(1));
    }
    slots.note(1, &event(MAX_EVENTS), Strategy::Coalesced, &waited(1_000_000));
    assert_eq!(slots.since(1).len(), MAX_EVENTS, "it came too late");
    slots.note(2, &event(MAX_EVENTS), Strategy::Coalesced, &waited(1));
    assert_eq!(slots.since(1).len(), KEPT_EVENTS + 1);
    let hottest = &ranked(slots.since(1), 1)[0];
    assert_eq!((&hottest.1, hottest.0.waiting), (&event(MAX_EVENTS - 1), Duration::from_millis(MAX_EVENTS as u64)));
    assert!(slots.since(1).contains_key(&event(MAX_EVENTS - KEPT_EVENTS)));
    assert!(!slots.since(1).contains_key(&event(MAX_EVENTS - KEPT_EVENTS - 1)));
    assert_eq!(slots.since(2).len(), 1);
}

#[test]
fn counts_older_than_the_last_slots_are_dropped() {
    let mut slots = Slots::default();
    for number in 0..2 * SLOTS {
        slots.note(number as u64, &event(number), Strategy::Coalesced, &waited(1));
    }
    assert_eq!(slots.since(0).len(), SLOTS);
}
