//! What operators do with a waitlist and an event, and what a command tells of the promotions that it causes.

use super::{waitlist::*, *};
use crate::domain::{booking_close::BookingClose, change::ChangeKind, event::EventState, waitlist::EntryState};

#[test]
fn a_party_that_became_smaller_keeps_its_place_and_is_served_at_once_if_it_fits() {
    let mut world = full(4, OPEN);
    world.yes(join(1, 4, 3));
    world.yes(join(2, 1, 1));
    world.yes(cancel(0, 2));
    let amend = |quantity, min_quantity| Action::AmendEntry { target: Target::User(user(1)), quantity, min_quantity };
    assert_eq!(world.no(amend(Some(5), None)), Refusal::QuantityLimit { asked: 5, limit: 4 });
    assert_eq!(world.no(amend(Some(2), Some(3))), Refusal::QuantityLimit { asked: 3, limit: 2 });
    world.yes(amend(Some(3), None));
    assert_eq!((world.entry(1).quantity, world.entry(1).min_quantity), (3, 3));
    assert_eq!(world.promoted(), []);
    world.yes(amend(Some(2), None));
    assert_eq!(world.promoted(), [(user(1), 2)]);
    assert!(world.entry(2).waits());
}

#[test]
fn an_operator_chooses_who_is_served_also_of_a_closed_event() {
    let mut world = full(4, OPEN);
    for number in 1..4 {
        world.yes(join(number, 2, 2));
    }
    let promote = |number| Action::PromoteEntry { target: Target::User(user(number)), reason: "the band".into() };
    let full = Refusal::SoldOut { asked: 2, available: 0, next_hold_expiry: None };
    assert_eq!(world.no(promote(2)), full);
    world.yes(Action::CloseEvent);
    world.yes(cancel(0, 4));
    world.yes(promote(3));
    assert_eq!(world.promoted(), [(user(3), 2)]);
    let told = world.changes.last().expect("it is a change");
    assert_eq!((told.kind, told.reason.as_deref()), (ChangeKind::WaitlistPromoted, Some("the band")));
    assert_eq!(world.no(promote(3)), Refusal::NotWaiting(EntryState::Promoted));
    world.yes(Action::OpenEvent);
    assert_eq!(world.promoted(), [(user(3), 2), (user(1), 2)]);
    world.yes(Action::CancelEvent { reason: None });
    assert_eq!(world.no(promote(2)), Refusal::NotWaiting(EntryState::Ended));
}

#[test]
fn what_a_command_answers_with_is_the_event_after_the_promotions_that_it_causes() {
    let mut world = full(1, OPEN);
    world.yes(join(1, 1, 1));
    world.yes(join(2, 1, 1));
    let capacity = Definition { capacity: 2, ..Definition::default() };
    let update = EventUpdate { values: capacity, fields: vec![EventField::Capacity] };
    let update = command(Action::UpdateEvent(update.into()), Some(1));
    let told = world.carry_out(&update, at(100));
    let Ok(Decision::Commit(commit)) = told else { panic!("{told:?}") };
    assert_eq!(commit.answer().after_promotions, Some(world.event.counters));
    assert_eq!(commit.answer().final_version(), world.event.counters.version);
    // And so does its replay, when others have changed the event since.
    world.yes(cancel(0, 1));
    assert_eq!(world.carry_out(&update, at(100)), Ok(Decision::Replay(Box::new(commit.answer().clone()))));
    assert_ne!(commit.answer().final_version(), world.event.counters.version);
}

#[test]
fn only_an_event_that_was_never_used_is_deleted_and_then_it_is_not_found() {
    let mut world = World::new(1, OPEN);
    let mut used = world.clone();
    used.yes(reserve(1, 1));
    used.yes(cancel(1, 1));
    assert_eq!(used.no(Action::DeleteEvent), Refusal::EventUsed);
    world.yes(Action::DeleteEvent);
    assert_eq!(world.event.state, EventState::Deleted);
    for action in [Action::DeleteEvent, Action::OpenEvent, reserve(1, 1), join(1, 1, 1)] {
        assert_eq!(world.no(action), Refusal::EventNotFound);
    }
}

#[test]
fn a_cancelled_event_tells_what_ended_with_it_and_lapsed_holds_are_not_among_that() {
    let mut world = World::new(3, OPEN);
    reserved(&mut world, 1, ReserveMode::Hold(None), 80);
    reserved(&mut world, 2, ReserveMode::Confirm, 80);
    reserved(&mut world, 3, ReserveMode::Confirm, 80);
    world.carry_out(&command(join(4, 1, 1), None), at(85)).expect("it is sold out");
    world.yes(Action::CancelEvent { reason: Some("rain".into()) });
    let told = world.changes.last().and_then(|change| change.event()).expect("it is the event's");
    assert_eq!((told.cancelled_reservations, told.ended_entries), (2, 1));
    assert_eq!((told.event.state, told.event.cancel_reason.as_deref()), (EventState::Cancelled, Some("rain")));
}

#[test]
fn the_times_of_an_event_may_not_contradict_each_other() {
    let fields = |open, close, start, end| {
        let definition = Definition {
            booking_open_time: Some(at(open)),
            booking_close: BookingClose::At(at(close)),
            start_time: Some(at(start)),
            end_time: Some(at(end)),
            ..Definition::default()
        };
        definition.contradictions().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(fields(1, 2, 3, 4), Vec::<&str>::new());
    assert_eq!(fields(1, 2, 3, 3), Vec::<&str>::new());
    assert_eq!(fields(2, 2, 3, 4), ["booking_close_time"]);
    assert_eq!(fields(2, 1, 4, 3), ["end_time", "booking_close_time"]);
}

#[test]
fn a_confirmation_has_its_time() {
    let mut world = World::new(1, OPEN);
    reserved(&mut world, 1, ReserveMode::Hold(None), 95);
    world.yes(Action::Confirm { target: Target::User(user(1)), quantity: None });
    let confirmed = world.changes.last().and_then(|change| change.reservation()).expect("it is a reservation's");
    assert_eq!(confirmed.confirm_time, Some(at(100)));
}
