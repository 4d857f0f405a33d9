//! Tests of the cache of events.

use super::*;
use crate::domain::event::{Counters, EventState};

fn cached(number: u32) -> (EventId, CachedEvent) {
    let id = EventId::parse(&format!("event-{number}")).expect("valid");
    let event = Event {
        definition_version: 1,
        id: id.clone(),
        definition: Definition::default(),
        state: EventState::Open,
        cancel_reason: None,
        counters: Counters::default(),
        create_time: Timestamp::from_micros(0).expect("a moment"),
        update_time: Timestamp::from_micros(0).expect("a moment"),
    };
    (id, CachedEvent { event, penalty: Penalty::default() })
}

fn id(number: u32) -> EventId {
    cached(number).0
}

#[test]
fn it_keeps_what_was_used_lately_and_never_more_than_its_capacity() {
    let mut cache = EventCache::new(10);
    for number in 0..100 {
        let (id_of_it, event) = cached(number);
        cache.keep(id_of_it, event);
        assert!(cache.find(&id(0)).is_some(), "it is used all the time");
        assert!(cache.young.len() + cache.old.len() <= 10);
    }
    assert!(cache.find(&id(99)).is_some());
    assert!(cache.find(&id(50)).is_none());
}

#[test]
fn it_takes_on_what_has_changed() {
    let (_, mut cached) = cached(1);
    let mut event = cached.event.clone();
    event.counters.held = 3;
    cached.become_like(&event);
    assert_eq!(cached.event, event);
    event.definition.capacity = 7;
    cached.become_like(&event);
    assert_eq!(cached.event, event);
}

#[test]
fn without_capacity_it_keeps_nothing() {
    let mut cache = EventCache::new(0);
    let (id_of_it, event) = cached(1);
    cache.keep(id_of_it, event);
    assert!(cache.find(&id(1)).is_none());
}

#[test]
fn a_penalty_doubles_with_each_misprediction_and_goes_when_there_are_none() {
    let mut penalty = Penalty::default();
    for times in [1, 3, 7, 15, 31, 63, 63] {
        penalty = penalty.grown();
        assert_eq!(penalty.left, times);
        while penalty.left > 0 {
            penalty = penalty.shrunk();
        }
    }
    for _ in 0..6 {
        penalty = penalty.shrunk();
    }
    assert_eq!(penalty.grown().left, 1);
}
