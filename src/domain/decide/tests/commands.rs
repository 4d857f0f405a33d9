//! Commands, generated.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use crate::domain::{
    caller::{Actor, Caller},
    command::{Action, Command, EventField, EventUpdate, Join, Reserve, ReserveMode},
    event::{Definition, Limits},
    ids::{EventId, Fingerprint, Request, RequestId, ReservationId, Target, UserId},
    limits::Labels,
    time::Timestamp,
    waitlist::Policy,
};

pub(super) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).expect("in range")
}

pub(super) fn user(number: u8) -> UserId {
    UserId::parse(&format!("user-{number}")).expect("valid")
}

pub(super) fn a_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        8 => (0..4_u8).prop_map(|number| Target::User(user(number))),
        1 => (0..40_u128).prop_map(|number| Target::Id(ReservationId(Uuid::from_u128(number)))),
    ]
}

pub(super) fn a_ttl() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((1..25_u64).prop_map(Duration::from_micros))
}

pub(super) fn an_action() -> impl Strategy<Value = Action> {
    let quantity = || prop::option::of(1..6_u32);
    let mode = prop_oneof![3 => a_ttl().prop_map(ReserveMode::Hold), 1 => Just(ReserveMode::Confirm)];
    prop_oneof![
        8 => (0..4_u8, 1..6_u32, mode).prop_map(|(number, quantity, mode)| Action::Reserve(Reserve {
            id: ReservationId(Uuid::nil()), // numbered when it is its turn
            user_id: user(number),
            quantity,
            mode,
            labels: Labels::default(),
        })),
        4 => (a_target(), quantity()).prop_map(|(target, quantity)| Action::Confirm { target, quantity }),
        3 => (a_target(), quantity()).prop_map(|(target, quantity)| Action::Cancel { target, quantity, reason: None }),
        2 => (a_target(), a_ttl()).prop_map(|(target, ttl)| Action::Extend { target, ttl }),
        3 => (a_target(), quantity()).prop_map(|(target, quantity)| Action::Amend { target, quantity, labels: None }),
        2 => (0..40_u128).prop_map(|number| Action::Expire(ReservationId(Uuid::from_u128(number)))),
        1 => (any::<bool>(), 0..12_u32, 1..6_u32).prop_map(|(is_capacity, capacity, max_quantity)| Action::UpdateEvent(EventUpdate {
            values: Definition { capacity, limits: Limits { max_quantity, ..Limits::default() }, ..Definition::default() },
            fields: vec![if is_capacity { EventField::Capacity } else { EventField::MaxQuantity }],
        }.into())),
        1 => prop_oneof![
            4 => Just(Action::OpenEvent),
            4 => Just(Action::CloseEvent),
            1 => Just(Action::CancelEvent { reason: None }),
            1 => Just(Action::DeleteEvent),
            1 => Just(Action::Promote),
        ],
        8 => a_join(8),
        2 => a_target().prop_map(|target| Action::Leave { target }),
        2 => (a_target(), quantity(), quantity()).prop_map(|(target, quantity, min_quantity)| {
            Action::AmendEntry { target, quantity, min_quantity }
        }),
        1 => a_target().prop_map(|target| Action::PromoteEntry { target, reason: "chosen".into() }),
        1 => a_policy().prop_map(|waitlist| Action::UpdateEvent(EventUpdate {
            values: Definition { waitlist, ..Definition::default() },
            fields: vec![EventField::Waitlist],
        }.into())),
    ]
}

pub(super) fn a_join(users: u8) -> impl Strategy<Value = Action> {
    (0..users, 1..5_u32, 1..5_u32).prop_map(|(number, quantity, min_quantity)| {
        Action::Join(Join {
            id: ReservationId(Uuid::nil()), // numbered when it is its turn
            user_id: user(number),
            quantity,
            min_quantity: min_quantity.min(quantity),
            labels: Labels::default(),
        })
    })
}

pub(super) fn a_policy() -> impl Strategy<Value = Policy> {
    (prop::bool::weighted(0.8), 1..8_u32, 0..3_u32, any::<bool>()).prop_map(
        |(enabled, max_size, max_skips, newcomers_may_overtake)| Policy {
            enabled,
            max_size,
            max_skips,
            newcomers_may_overtake,
            ..Policy::default()
        },
    )
}

/// Some commands, each a while after the one before; a few of them repeat a request_id.
pub(super) fn a_history(actions: impl Strategy<Value = Action>) -> impl Strategy<Value = Vec<(Command, Timestamp)>> {
    let step = (actions, prop::option::weighted(0.4, 0..6_u8), 0..4_i64);
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let mut micros = 100;
        let number = |(place, (mut action, request, wait)): (usize, (Action, Option<u8>, i64))| {
            micros += wait;
            number_from(&mut action, place as u128);
            (command(action, request), at(micros))
        };
        steps.into_iter().enumerate().map(number).collect()
    })
}

/// Sets the id of the reservation or entry that the action makes.
pub(super) fn number_from(action: &mut Action, number: u128) {
    match action {
        Action::Reserve(Reserve { id, .. }) | Action::Join(Join { id, .. }) => {
            *id = ReservationId(Uuid::from_u128(number))
        }
        _ => {}
    }
}

/// A command under a request_id; its kind stands for the payload.
pub(super) fn command(action: Action, request: Option<u8>) -> Command {
    let mut command = Command {
        expected_event_version: None,
        event_id: EventId::parse("event").expect("valid"),
        action,
        etag: None,
        request: None,
        caller: Caller { actor: Actor::parse("token:ann"), ..Caller::default() },
    };
    let kind = command.operation().as_bytes()[0];
    // Expiry has no request_id: a hold can lapse only once.
    let request = request.filter(|_| !matches!(command.action, Action::Expire(_)));
    command.request = request.map(|number| Request {
        id: RequestId::parse(&format!("request-{number}")).expect("valid"),
        fingerprint: Fingerprint([kind; 16]),
    });
    command
}
