//! Properties of `decide`, against a world of plain rows.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

mod commands;
mod first_use;
mod operators;
mod waitlist;
pub(crate) mod world;

use super::{promotions, step};
use crate::domain::{
    caller::Caller,
    command::{Action, Command, EventField, EventUpdate, Join, Reserve, ReserveMode},
    commit::{Commit, Decision, Step},
    event::Definition,
    ids::{ReservationId, Target, UserId},
    limits::Labels,
    refusal::Refusal,
    reservation::State,
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::Policy,
};
use commands::{a_history, a_policy, an_action, at, command, number_from, user};
use world::World;

proptest! {
    /// Any commands in any order keep the counters right. A refusal changes nothing, ended reservations never come
    /// back, and a repetition gets the first answer.
    #[test]
    fn the_counters_are_right_after_every_command(
        capacity in 0..10_u32, policy in a_policy(), history in a_history(an_action())
    ) {
        let mut world = World::new(capacity, policy);
        for (command, now) in history {
            let before = world.clone();
            let decision = world.carry_out(&command, now);
            world.check();
            for (id, old) in &before.rows {
                let new = &world.rows[id];
                prop_assert!(old.state.is_live() || old == new, "{id} had ended, and changed");
                prop_assert!(!(old.has_lapsed(now) && new.state == State::Confirmed), "{id} was confirmed too late");
                let early = new.state == State::Expired && old.state == State::Held && !old.has_lapsed(now);
                prop_assert!(!early, "{id} expired before its time");
            }
            match decision {
                Err(_) => prop_assert_eq!(&before, &world),
                Ok(Decision::Replay(change)) => {
                    prop_assert_eq!(&before, &world);
                    prop_assert!(world.changes.contains(&change));
                }
                Ok(Decision::Commit(_)) if command.request.is_some() => {
                    let again = world.carry_out(&command, at(1_000_000));
                    prop_assert!(matches!(again, Ok(Decision::Replay(_))), "not recognised: {:?}", again);
                }
                Ok(Decision::Commit(_)) => {}
            }
        }
    }

    /// Commands decided one after the other over one load give the same answers, and leave the same rows, as when each
    /// is decided on a load of its own.
    #[test]
    fn a_batch_is_the_same_as_one_by_one(
        capacity in 0..10_u32, policy in a_policy(), early in a_history(an_action()), late in a_history(an_action())
    ) {
        let mut world = World::new(capacity, policy);
        for (command, now) in &early {
            let _ = world.carry_out(command, *now);
        }
        let now = at(100 + 15);
        // The second history needs ids of its own.
        let batch: Vec<Command> = late.into_iter().enumerate().map(|(place, (mut command, _))| {
            number_from(&mut command.action, place as u128 + 1000);
            command
        }).collect();
        // `base` is what a read shows, until the batch is cut in two: a command that ends everything is both the
        // first and the last of its event in a batch.
        let (mut base, mut written, mut is_ended) = (world.clone(), world.clone(), false);
        let mut snapshot = base.load(&batch);
        let mut folded = Vec::new();
        for (place, command) in batch.iter().enumerate() {
            if is_ended || command.reads_sums() && snapshot.is_advanced() {
                base = written.clone();
                snapshot = base.load(&batch[place..]);
            }
            let (decision, commits) = commits_of_one(&base, &mut snapshot, command, now);
            commits.iter().for_each(|commit| written.write(commit, now));
            is_ended = commits.iter().any(|commit| commit.ends_all.is_some());
            folded.push(decision);
        }
        let single: Vec<_> = batch.iter().map(|command| world.carry_out(command, now)).collect();
        let forget_hint = |answers: Vec<Result<Decision, Refusal>>| answers.into_iter().map(without_hint).collect::<Vec<_>>();
        prop_assert_eq!(forget_hint(folded), forget_hint(single));
        prop_assert_eq!(written, world);
    }

    /// A load made before other commands, and advanced by their commits, is as good as one made after them, as long as
    /// no lapsed hold must be released for the units.
    #[test]
    fn a_reading_ahead_is_as_good_as_a_reading_after(
        capacity in 0..40_u32, policy in a_policy(), early in a_history(an_action()), late in a_history(an_action())
    ) {
        let mut world = World::new(capacity, policy);
        let now = at(100 + 15);
        let all = early.iter().chain(&late).filter(|(command, _)| !command.reads_sums());
        let renamed = all.enumerate().map(|(place, (command, _))| {
            let mut command = command.clone();
            number_from(&mut command.action, 1000 + place as u128);
            command
        });
        let mut commands: Vec<Command> = renamed.collect();
        let second = commands.split_off(commands.len() / 2);
        let (first, third) = commands.split_at(commands.len() / 2);
        for command in first {
            let _ = world.carry_out(command, at(100));
        }
        let mut known = world.load(third);
        let mut ahead = world.load(&second);
        let loaded = world.clone();
        let commits: Vec<_> = third.iter().flat_map(|one| commits_of_one(&loaded, &mut known, one, now).1).collect();
        for command in third {
            let _ = world.carry_out(command, now);
        }
        commits.iter().for_each(|commit| ahead.advance(commit));
        let needs: u32 = second.iter().map(|command| command.units(&ahead.event)).sum();
        if needs <= ahead.event.available() {
            let mut fresh = world.load(&second);
            for command in &second {
                let after = one_of_a_batch(&world, &mut fresh, command, now);
                prop_assert_eq!(one_of_a_batch(&world, &mut ahead, command, now), after, "{:?}", command);
            }
            prop_assert_eq!(ahead.event, fresh.event);
        }
    }
}

/// Decides a command of a batch as the engine does: it reads what the command turns out to need.
fn one_of_a_batch(
    read: &World,
    snapshot: &mut Snapshot,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    commits_of_one(read, snapshot, command, now).0
}

/// The same, and what it wrote.
fn commits_of_one(
    read: &World,
    snapshot: &mut Snapshot,
    command: &Command,
    now: Timestamp,
) -> (Result<Decision, Refusal>, Vec<Commit>) {
    let mut commits = Vec::new();
    let decision = loop {
        match step(snapshot, command, now) {
            Step::Needs(needs) => read.meet(snapshot, &needs, now),
            Step::Refused(refusal) => break Err(refusal),
            Step::Replayed(change) => break Ok(Decision::Replay(change)),
            Step::Accepted(commit) => break Ok(Decision::Commit(commit)),
        }
    };
    let Ok(Decision::Commit(mut cause)) = decision else { return (decision, commits) };
    let more = loop {
        match promotions(snapshot, &mut cause, now) {
            Ok(more) => break more,
            Err(needs) => read.meet(snapshot, &needs, now),
        }
    };
    commits.push(cause.clone());
    commits.extend(more);
    (Ok(Decision::Commit(cause)), commits)
}

/// The next expiry in a SOLD_OUT is a hint, read once for a batch.
fn without_hint(answer: Result<Decision, Refusal>) -> Result<Decision, Refusal> {
    match answer {
        Err(Refusal::SoldOut { asked, available, .. }) => {
            Err(Refusal::SoldOut { asked, available, next_hold_expiry: None })
        }
        other => other,
    }
}

fn reserved(world: &mut World, number: u8, mode: ReserveMode, now: i64) -> ReservationId {
    let id = ReservationId(Uuid::from_u128(u128::from(number) + 500));
    let wish = Reserve { id, user_id: user(number), quantity: 1, mode, labels: Labels::default() };
    world.carry_out(&command(Action::Reserve(wish), None), at(now)).expect("there is room");
    id
}

#[test]
fn a_hold_is_good_until_just_before_its_end_and_lapsed_from_then_on() {
    let confirm = |id| command(Action::Confirm { target: Target::Id(id), quantity: None }, None);
    for (now, is_good) in [(109, true), (110, false), (111, false)] {
        let mut world = World::new(1, Policy::default());
        let id = reserved(&mut world, 1, ReserveMode::Hold(None), 100);
        let result = world.carry_out(&confirm(id), at(now));
        assert_eq!(result.is_ok(), is_good, "at {now}: {result:?}");
        if !is_good {
            assert_eq!(result, Err(Refusal::HoldExpired(at(110))));
        }
    }
}

#[test]
fn the_answer_to_a_late_confirm_does_not_depend_on_the_expiry_worker() {
    let mut world = World::new(1, Policy::default());
    let id = reserved(&mut world, 1, ReserveMode::Hold(None), 100);
    let confirm = command(Action::Confirm { target: Target::Id(id), quantity: None }, None);
    let before = world.carry_out(&confirm, at(120));
    world.carry_out(&command(Action::Expire(id), None), at(120)).expect("it has lapsed");
    assert_eq!(before, world.carry_out(&confirm, at(121)));
}

#[test]
fn capacity_shrinks_to_what_is_reserved_and_lapsed_holds_reserve_nothing() {
    let mut world = World::new(3, Policy::default());
    reserved(&mut world, 1, ReserveMode::Hold(None), 100);
    reserved(&mut world, 2, ReserveMode::Confirm, 100);
    let shrink = |capacity| {
        let values = Definition { capacity, ..Definition::default() };
        command(Action::UpdateEvent(EventUpdate { values, fields: vec![EventField::Capacity] }.into()), None)
    };
    assert_eq!(world.carry_out(&shrink(1), at(105)), Err(Refusal::CapacityBelowReserved { capacity: 1, reserved: 2 }));
    world.carry_out(&shrink(1), at(110)).expect("the hold has lapsed");
    world.check();
}

#[test]
fn a_stale_version_or_etag_is_refused_before_anything_else_is_looked_at() {
    let mut world = World::new(0, Policy::default());
    let version = world.event.counters.version;
    let (id, user_id, labels) = (ReservationId(Uuid::nil()), user(1), Labels::default());
    let wish = Reserve { id, user_id, quantity: 1, mode: ReserveMode::Confirm, labels };
    let mut stale = command(Action::Reserve(wish), None);
    stale.expected_event_version = Some(version + 1);
    assert_eq!(world.carry_out(&stale, at(1)), Err(Refusal::EventVersionMismatch { current: version }));
    stale.expected_event_version = Some(version);
    assert!(matches!(world.carry_out(&stale, at(1)), Err(Refusal::SoldOut { .. })));
    let mut stale = command(Action::OpenEvent, None);
    stale.etag = Some("e9".into());
    assert_eq!(world.carry_out(&stale, at(1)), Err(Refusal::EtagMismatch { current: "e1".into() }));
}

#[test]
fn a_caller_that_acts_for_one_user_finds_that_users_reservation_and_no_other() {
    let user = |name: &str| UserId::parse(name).expect("valid");
    let mut world = World::new(4, Policy::default());
    let wish = Reserve {
        id: ReservationId(Uuid::from_u128(1)),
        user_id: user("ann"),
        quantity: 1,
        mode: ReserveMode::Hold(None),
        labels: Labels::default(),
    };
    let reserve = command(Action::Reserve(wish), None);
    world.carry_out(&reserve, at(1)).expect("there is room");
    for target in [Target::Id(ReservationId(Uuid::from_u128(1))), Target::User(user("ann"))] {
        for action in [
            Action::Confirm { target: target.clone(), quantity: None },
            Action::Cancel { target: target.clone(), quantity: None, reason: None },
            Action::Extend { target: target.clone(), ttl: None },
            Action::Amend { target: target.clone(), quantity: Some(2), labels: None },
        ] {
            for (only, finds) in [(None, true), (Some(user("ann")), true), (Some(user("bob")), false)] {
                let command = command(action.clone(), None).by(Caller { only, ..Caller::default() });
                let decided = world.clone().carry_out(&command, at(2));
                assert_eq!(decided != Err(Refusal::ReservationNotFound), finds, "{command:?}");
            }
        }
    }
}
