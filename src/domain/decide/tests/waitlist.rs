//! The rules of the waitlist: who is next, and who may not overtake.

use super::{commands::a_join, *};
use crate::domain::{
    change::ChangeKind,
    event::EventState,
    waitlist::{Entry, EntryState},
};

pub(super) const OPEN: Policy = Policy {
    enabled: true,
    max_size: 5,
    offer_ttl: None,
    max_skips: 0,
    newcomers_may_overtake: false,
    join_before_booking: false,
};

pub(super) fn join(number: u8, quantity: u32, min_quantity: u32) -> Action {
    Action::Join(Join {
        id: ReservationId(Uuid::from_u128(u128::from(number) + 900)),
        user_id: user(number),
        quantity,
        min_quantity,
        labels: Labels::default(),
    })
}

pub(super) fn reserve(number: u8, quantity: u32) -> Action {
    Action::Reserve(Reserve {
        id: ReservationId(Uuid::from_u128(u128::from(number) + 500)),
        user_id: user(number),
        quantity,
        mode: ReserveMode::Confirm,
        labels: Labels::default(),
    })
}

pub(super) fn cancel(number: u8, quantity: u32) -> Action {
    Action::Cancel { target: Target::User(user(number)), quantity: Some(quantity), reason: None }
}

impl World {
    #[track_caller]
    pub(super) fn yes(&mut self, action: Action) {
        self.carry_out(&command(action, None), at(100)).expect("allowed");
        self.check();
    }

    #[track_caller]
    pub(super) fn no(&mut self, action: Action) -> Refusal {
        self.carry_out(&command(action, None), at(100)).expect_err("refused")
    }

    pub(super) fn entry(&self, number: u8) -> &Entry {
        self.entries.values().find(|entry| entry.user_id == user(number)).expect("it has joined")
    }

    /// The users who were promoted, in order, and how many units each got.
    pub(super) fn promoted(&self) -> Vec<(UserId, u32)> {
        let changes = self.changes.iter().filter(|change| change.kind == ChangeKind::WaitlistPromoted);
        changes.filter_map(|change| change.reservation()).map(|offer| (offer.user_id.clone(), offer.quantity)).collect()
    }
}

/// A full event of this capacity, all of it user 0's.
pub(super) fn full(capacity: u32, policy: Policy) -> World {
    let mut world = World::new(capacity, policy);
    world.yes(reserve(0, capacity));
    world
}

#[test]
fn strict_fifo_promotes_no_entry_before_the_first() {
    let mut world = full(4, OPEN);
    world.yes(join(1, 3, 3));
    world.yes(join(2, 1, 1));
    world.yes(cancel(0, 2));
    assert_eq!(world.promoted(), []);
    assert_eq!(world.no(reserve(3, 1)), Refusal::WaitlistAhead { asked: 1, waiting: 2 });
    world.yes(cancel(0, 2));
    assert_eq!(world.promoted(), [(user(1), 3), (user(2), 1)]);
}

#[test]
fn a_party_too_large_is_passed_over_so_often_and_then_everybody_waits_for_it() {
    let mut world = full(4, Policy { max_skips: 2, ..OPEN });
    for (number, quantity) in [(1, 2), (2, 1), (3, 1), (4, 1)] {
        world.yes(join(number, quantity, quantity));
    }
    world.yes(cancel(0, 1));
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted(), [(user(2), 1), (user(3), 1)]);
    assert_eq!(world.entry(1).skips, 2);
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted().len(), 2, "no entry passes the first a third time");
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted()[2..], [(user(1), 2)]);
    world.yes(cancel(2, 1));
    assert_eq!(world.promoted()[3..], [(user(4), 1)]);
}

#[test]
fn an_entry_that_takes_fewer_gets_the_free_units() {
    let mut world = full(4, OPEN);
    world.yes(join(1, 4, 2));
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted(), []);
    world.yes(cancel(0, 2));
    assert_eq!(world.promoted(), [(user(1), 3)]);
    assert_eq!(world.event.available(), 0);
}

#[test]
fn an_offer_is_a_hold_that_goes_on_to_the_next_when_it_lapses() {
    let mut world = full(1, Policy { offer_ttl: Some(Duration::from_micros(7)), ..OPEN });
    world.yes(join(1, 1, 1));
    world.yes(join(2, 1, 1));
    world.yes(cancel(0, 1));
    let offer = world.rows[&world.entry(1).id].clone();
    assert_eq!((offer.state, offer.expire_time), (State::Held, Some(at(107))));
    world.carry_out(&command(Action::Expire(offer.id), None), at(107)).expect("it has lapsed");
    assert_eq!(world.promoted()[1..], [(user(2), 1)]);
    assert_eq!(world.entry(1).state, EntryState::Promoted, "and does not come back");
}

#[test]
fn every_command_that_frees_places_promotes() {
    type Free = fn(&mut World);
    let frees: [(&str, Free); 6] = [
        ("a cancellation", |world| world.yes(cancel(0, 4))),
        ("a part of one", |world| world.yes(cancel(0, 1))),
        ("a smaller amend", |world| {
            world.yes(Action::Amend { target: Target::User(user(0)), quantity: Some(3), labels: None });
        }),
        ("a part of a confirmation", |world| {
            world.yes(Action::Confirm { target: Target::User(user(9)), quantity: Some(1) });
        }),
        ("more capacity", |world| world.yes(resize(7))),
        ("a lapse", |world| {
            let hold = world.rows.values().find(|row| row.state == State::Held).expect("one").id;
            world.carry_out(&command(Action::Expire(hold), None), at(200)).expect("it has lapsed");
        }),
    ];
    for (what, free) in frees {
        let mut world = World::new(6, OPEN);
        world.yes(reserve(0, 4));
        let hold = Reserve {
            id: ReservationId(Uuid::from_u128(77)),
            user_id: user(9),
            quantity: 2,
            mode: ReserveMode::Hold(None),
            labels: Labels::default(),
        };
        world.yes(Action::Reserve(hold));
        world.yes(join(1, 1, 1));
        free(&mut world);
        world.check();
        assert_eq!(world.promoted(), [(user(1), 1)], "{what}");
    }
}

fn resize(capacity: u32) -> Action {
    let values = Definition { capacity, ..Definition::default() };
    Action::UpdateEvent(EventUpdate { values, fields: vec![EventField::Capacity] }.into())
}

#[test]
fn a_waitlist_that_stood_still_while_the_event_was_closed_is_promoted_when_it_opens() {
    let mut world = full(2, OPEN);
    world.yes(join(1, 1, 1));
    world.yes(Action::CloseEvent);
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted(), []);
    world.yes(Action::OpenEvent);
    assert_eq!(world.promoted(), [(user(1), 1)]);
}

#[test]
fn a_waitlist_that_loses_its_head_or_gets_another_policy_is_looked_at_again() {
    let mut world = full(4, OPEN);
    world.yes(join(1, 4, 4));
    world.yes(join(2, 2, 2));
    world.yes(join(3, 1, 1));
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted(), []);
    let waitlist = Policy { max_skips: 1, ..OPEN };
    let values = Definition { waitlist, ..Definition::default() };
    world.yes(Action::UpdateEvent(EventUpdate { values, fields: vec![EventField::Waitlist] }.into()));
    assert_eq!(world.promoted(), [(user(3), 1)]);
    world.yes(cancel(0, 2));
    assert_eq!(world.promoted().len(), 1, "the first can't be passed over again");
    world.yes(Action::Leave { target: Target::User(user(1)) });
    assert_eq!(world.promoted()[1..], [(user(2), 2)]);
}

#[test]
fn newcomers_overtake_only_under_the_policy_and_only_with_units_that_fit_no_entry_before_them() {
    let mut world = full(4, Policy { newcomers_may_overtake: true, ..OPEN });
    world.yes(join(1, 2, 2));
    world.yes(cancel(0, 1));
    world.yes(reserve(2, 1));
    world.yes(cancel(0, 1));
    let more = |quantity| Action::Amend { target: Target::User(user(2)), quantity: Some(quantity), labels: None };
    world.yes(more(2));
    world.yes(cancel(0, 2));
    assert_eq!(world.promoted(), [(user(1), 2)], "units that become free go to the waitlist first");

    let mut world = full(4, OPEN);
    world.yes(join(1, 2, 2));
    world.yes(cancel(0, 1));
    assert_eq!(world.no(reserve(2, 1)), Refusal::WaitlistAhead { asked: 1, waiting: 1 });
    let more = Action::Amend { target: Target::User(user(0)), quantity: Some(4), labels: None };
    assert_eq!(world.no(more), Refusal::WaitlistAhead { asked: 1, waiting: 1 });
}

#[test]
fn who_waits_and_reserves_waits_no_longer() {
    let mut world = full(4, Policy { newcomers_may_overtake: true, ..OPEN });
    world.yes(join(1, 2, 2));
    world.yes(cancel(0, 1));
    world.yes(reserve(1, 1));
    assert_eq!(world.entry(1).state, EntryState::Left);
    assert!(matches!(world.no(join(1, 1, 1)), Refusal::AlreadyReserved(Some(_))));
}

#[test]
fn one_joins_once_and_only_where_there_is_something_to_wait_for() {
    let mut world = full(4, Policy { max_size: 1, ..OPEN });
    world.yes(cancel(0, 1));
    assert_eq!(world.no(join(1, 1, 1)), Refusal::NotSoldOut { asked: 1, available: 1 });
    assert_eq!(world.no(join(1, 3, 1)), Refusal::NotSoldOut { asked: 3, available: 1 });
    assert_eq!(world.no(join(1, 5, 5)), Refusal::QuantityLimit { asked: 5, limit: 4 });
    assert!(matches!(world.no(join(0, 1, 1)), Refusal::AlreadyReserved(Some(_))));
    world.yes(join(1, 2, 2));
    assert_eq!(world.no(join(1, 2, 2)), Refusal::AlreadyWaiting(Some(world.entry(1).id)));
    assert_eq!(world.no(join(2, 1, 1)), Refusal::WaitlistFull { limit: 1 });
    world.yes(Action::Leave { target: Target::User(user(1)) });
    assert_eq!(world.no(Action::Leave { target: Target::User(user(1)) }), Refusal::NotWaiting(EntryState::Left));
    assert_eq!(world.no(Action::Leave { target: Target::User(user(7)) }), Refusal::EntryNotFound);
    let mut world = full(4, Policy { enabled: false, ..OPEN });
    assert_eq!(world.no(join(1, 1, 1)), Refusal::WaitlistClosed);
    world.yes(Action::CloseEvent);
    assert!(matches!(world.no(join(1, 1, 1)), Refusal::EventNotOpen { state: EventState::Closed, .. }));
}

#[test]
fn lapsed_holds_are_nothing_to_wait_for() {
    let mut world = World::new(1, OPEN);
    reserved(&mut world, 1, ReserveMode::Hold(None), 100);
    world.carry_out(&command(join(2, 1, 1), None), at(109)).expect("it is sold out");
    world.carry_out(&command(Action::Leave { target: Target::User(user(2)) }, None), at(109)).expect("it waits");
    let refused = world.carry_out(&command(join(2, 1, 1), None), at(110));
    assert_eq!(refused, Err(Refusal::NotSoldOut { asked: 1, available: 1 }));
}

#[test]
fn no_entry_waits_for_more_than_the_capacity() {
    let mut world = full(4, OPEN);
    world.yes(join(1, 4, 4));
    world.yes(join(2, 4, 2));
    world.yes(cancel(0, 2));
    world.yes(resize(3));
    assert_eq!(world.entry(1).state, EntryState::Ended);
    assert_eq!(world.entry(2).state, EntryState::Waiting, "it would do with two");
    world.yes(cancel(0, 1));
    assert_eq!(world.promoted(), [(user(2), 2)]);
}

#[test]
fn a_waitlist_ends_with_its_event() {
    let mut world = full(4, OPEN);
    world.yes(join(1, 1, 1));
    world.yes(join(2, 1, 1));
    world.yes(Action::CancelEvent { reason: None });
    let record = world.changes.last().and_then(|change| change.event()).expect("the event's own");
    assert_eq!((record.cancelled_reservations, record.ended_entries), (1, 2));
    assert_eq!(world.event.counters.waiting, 0);
}

#[test]
fn who_may_join_before_booking_is_served_when_it_opens() {
    let join = |number: u8| command(join(number, 1, 1), None);
    let policy = Policy { join_before_booking: true, ..OPEN };
    let mut world = World::new(1, policy);
    world.event.definition.booking_open_time = Some(at(50));
    world.carry_out(&join(1), at(49)).expect("booking has not opened");
    let Ok(Decision::Commit(early)) = world.carry_out(&join(2), at(49)) else { panic!("it has not") };
    assert_eq!(early.valid_until, Some(at(50)), "from then on the free place could be had");
    world.carry_out(&command(Action::Promote, None), at(50)).expect("it is open now");
    world.check();
    let users: Vec<_> = world.rows.values().map(|row| row.user_id.clone()).collect();
    assert_eq!(users, [user(1)]);

    for (policy, open) in [(Policy { join_before_booking: false, ..policy }, true), (policy, false)] {
        let mut world = World::new(1, policy);
        world.event.definition.booking_open_time = Some(at(50));
        world.event.state = if open { EventState::Open } else { EventState::Closed };
        assert!(matches!(world.carry_out(&join(1), at(49)), Err(Refusal::EventNotOpen { .. })));
    }
}

proptest! {
    /// Under strict FIFO the order of promotions is that of the waitlist; with skips no entry is overtaken more
    /// often than the rule says: so many times while it is the first, and while each before it was.
    #[test]
    fn no_entry_is_overtaken_more_often_than_the_policy_says(
        max_skips in 0..3_u32,
        history in a_history(prop_oneof![
            3 => a_join(40),
            2 => (0..40_u8, 1..4_u32).prop_map(|(number, quantity)| cancel(number, quantity)),
            1 => (0..40_u8).prop_map(|number| Action::Leave { target: Target::User(user(number)) }),
        ]),
    ) {
        let mut world = World::new(9, Policy { max_skips, max_size: 100, ..OPEN });
        (0..3).for_each(|number| world.yes(reserve(number, 3)));
        let mut ahead = std::collections::HashMap::new();
        for (command, now) in history {
            let before = world.queue().len();
            if world.carry_out(&command, now).is_ok() && let Action::Join(join) = &command.action {
                ahead.insert(join.id, before);
            }
            world.check();
        }
        let served = |entry: &Entry| world.changes.iter().find(|change| {
            change.kind == ChangeKind::WaitlistPromoted && change.reservation().is_some_and(|row| row.id == entry.id)
        }).map(|change| change.version);
        for entry in world.entries.values() {
            let until = if entry.waits() { i64::MAX } else { served(entry).unwrap_or(entry.version) };
            let overtaken = world.entries.values().filter(|other| {
                other.ticket > entry.ticket && served(other).is_some_and(|when| when < until)
            });
            prop_assert!(overtaken.count() <= max_skips as usize * (ahead[&entry.id] + 1));
        }
    }
}
