//! Callers: what they ask for, in which way, how long they wait, and what they were told.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{database::Model, state::Shared};
use crate::{
    config::Strategy,
    domain::{
        caller::{Actor, Caller as Who},
        change::Change,
        command::{Action, Command, EventField, EventUpdate, Join, Reserve, ReserveMode},
        event::{Definition, Limits},
        ids::{EventId, Fingerprint, Request, RequestId, ReservationId, Target, UserId},
        limits::Labels,
        waitlist::Policy,
    },
    ops::{
        OpError,
        env::Env,
        execute::{Answer, ExecOptions, Single, execute_alone, queue::Queue},
    },
    store::LockWait,
};

/// A server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) env: Env<Model>,
    pub(super) queue: Queue,
}

/// What a caller was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// It is done. Whether it was done before.
    Done(Box<Change>, bool),
    /// It is refused.
    Refused(&'static str),
    /// It was not done, for another reason.
    NotDone,
    /// It may have been done.
    Unknown,
}

/// A command with all that was told of it.
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) is_dry_run: bool,
    pub(super) told: Vec<Told>,
    /// Calls that were begun.
    pub(super) calls: usize,
}

/// All callers of a run. Clones share what was asked.
#[derive(Clone)]
pub(super) struct Callers {
    pub(super) shared: Shared,
    pub(super) servers: Vec<Server>,
    pub(super) events: u8,
    pub(super) users: u8,
    /// Nothing is in the way: all is coalesced, by one server, and each batch has to go as planned.
    pub(super) is_calm: bool,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
}

/// How one call is made.
struct Way {
    server: Server,
    strategy: Strategy,
    lock_wait: LockWait,
    is_dry_run: bool,
    patience: Option<Duration>,
    deadline: Instant,
}

pub(super) fn event_id(number: u8) -> EventId {
    EventId::parse(&format!("event-{number}")).expect("valid")
}

pub(super) fn user_id(number: u8) -> UserId {
    UserId::parse(&format!("user-{number}")).expect("valid")
}

impl Callers {
    /// One caller: a few calls, one after the other.
    pub(super) async fn live(self, calls: u32) {
        for _ in 0..calls {
            let think = self.shared.with(|state| if state.rng.bool() { 0 } else { state.rng.u64(..30) });
            sleep(Duration::from_millis(think)).await;
            let way = self.way();
            let place = self.place(way.is_dry_run);
            self.call(place, way).await;
        }
    }

    /// What to ask for: something new, or once more what was asked before.
    fn place(&self, is_dry_run: bool) -> usize {
        let mut asked = self.asked.lock();
        let place = self.shared.with(|state| state.rng.usize(..asked.len().max(1) * 3));
        let is_repeatable = |it: &Asked| it.command.request.is_some() && !it.is_dry_run;
        if !is_dry_run && asked.get(place).is_some_and(is_repeatable) {
            return place;
        }
        let command = self.command(asked.len());
        asked.push(Asked { command, is_dry_run, told: Vec::new(), calls: 0 });
        asked.len() - 1
    }

    fn way(&self) -> Way {
        self.shared.with(|state| {
            let rng = &mut state.rng;
            let strategy = match rng.u8(..5) {
                0 if !self.is_calm => Strategy::Pessimistic,
                1 if !self.is_calm => Strategy::Optimistic,
                _ => Strategy::Coalesced,
            };
            let lock_wait = if rng.u8(..6) == 0 && !self.is_calm { LockWait::NoWait } else { LockWait::Wait };
            let time = if rng.u8(..4) == 0 && !self.is_calm { rng.u64(5..200) } else { 10_000 };
            Way {
                server: self.servers[rng.usize(..self.servers.len())].clone(),
                strategy,
                lock_wait,
                is_dry_run: rng.u8(..20) == 0 && !self.is_calm,
                patience: (rng.u8(..10) == 0).then(|| Duration::from_millis(rng.u64(..40))),
                deadline: Instant::now() + Duration::from_millis(time),
            }
        })
    }

    async fn call(&self, place: usize, way: Way) {
        let (command, was_done) = {
            let mut asked = self.asked.lock();
            let it = &mut asked[place];
            it.calls += 1;
            (it.command.clone(), it.told.iter().any(|told| matches!(told, Told::Done(..))))
        };
        self.shared.trace(command.operation(), place as u64);
        let asked_at = Instant::now();
        let limit = way.patience.unwrap_or(Duration::from_secs(60));
        let is_patient = way.patience.is_none();
        let result = timeout(limit, way.execute(command.clone())).await;
        let Ok(result) = result else {
            self.shared.trace("gave up", place as u64);
            if is_patient {
                self.shared.violation(format!("call {place} has no answer after {:?}", asked_at.elapsed()));
            }
            return;
        };
        let told = self.told(place, result);
        let is_lost = || self.shared.with(|state| !state.lost.is_empty());
        if was_done && matches!(told, Told::Refused(_)) && !is_lost() {
            self.shared.violation(format!("call {place} was done, and a repetition is refused: {told:?}"));
        }
        self.asked.lock()[place].told.push(told);
    }

    fn told(&self, place: usize, result: Result<Answer, OpError>) -> Told {
        let what = result.as_ref().map_or_else(OpError::reason, |_| "done");
        self.shared.trace(what, place as u64);
        match result {
            Ok(Answer { change, replayed, stats }) => {
                if self.is_calm && stats.attempts > 1 {
                    let attempts = stats.attempts;
                    self.shared.violation(format!("call {place} took {attempts} attempts, with nothing in the way"));
                }
                Told::Done(change, replayed)
            }
            Err(OpError::Refused(refusal)) => Told::Refused(refusal.reason()),
            Err(OpError::Deadline | OpError::Unavailable { outcome_unknown: true, .. }) => Told::Unknown,
            Err(error @ (OpError::Unexpected(_) | OpError::Lost | OpError::Crashed(_))) => {
                self.shared.violation(format!("call {place} met a defect: {error:?}"));
                Told::Unknown
            }
            Err(_) => Told::NotDone,
        }
    }

    /// A new command, the one of this number.
    fn command(&self, number: usize) -> Command {
        let event = self.shared.with(|state| state.rng.u8(..self.events));
        let action = self.action();
        let has_request = self.shared.with(|state| state.rng.bool());
        let request = has_request.then(|| Request {
            id: RequestId::parse(&format!("request-{number}")).expect("valid"),
            fingerprint: Fingerprint([u8::try_from(number % 251).unwrap_or(0); 16]),
        });
        let actor = Actor::parse(&format!("call-{number}"));
        let caller = Who { actor, ..Who::default() };
        Command { event_id: event_id(event), action, etag: None, expected_event_version: None, request, caller }
    }

    fn action(&self) -> Action {
        self.shared.with(|state| {
            let id = Uuid::from_u128(u128::from(state.next_id()) << 4);
            let rng = &mut state.rng;
            let user = user_id(rng.u8(..self.users));
            let target = || Target::User(user.clone());
            let quantity = rng.bool().then(|| rng.u32(1..4));
            let ttl = if self.is_calm { None } else { Some(Duration::from_millis(rng.u64(1..80))) };
            match rng.u8(..67) {
                0..28 => Action::Reserve(Reserve {
                    id: ReservationId(id),
                    user_id: user.clone(),
                    quantity: rng.u32(1..4),
                    mode: if rng.u8(..4) == 0 { ReserveMode::Confirm } else { ReserveMode::Hold(ttl) },
                    labels: Labels::default(),
                }),
                28..34 => Action::Confirm { target: target(), quantity },
                34..43 => Action::Cancel { target: target(), quantity, reason: None },
                43..46 => Action::Extend { target: target(), ttl },
                46..50 => Action::Amend { target: target(), quantity, labels: None },
                50..56 => {
                    let quantity = rng.u32(1..4);
                    let min_quantity = rng.u32(1..=quantity);
                    let id = ReservationId::of_waitlist(id);
                    Action::Join(Join { id, user_id: user, quantity, min_quantity, labels: Labels::default() })
                }
                56..58 => Action::Leave { target: target() },
                58 => update(EventField::Capacity, rng),
                59 => update(if rng.bool() { EventField::Waitlist } else { EventField::MaxQuantity }, rng),
                60 => Action::OpenEvent,
                61 => Action::CloseEvent,
                62 if !self.is_calm => Action::CancelEvent { reason: None },
                63 => Action::AmendEntry { target: target(), quantity, min_quantity: None },
                64 => Action::PromoteEntry { target: target(), reason: "chosen".into() },
                65 if !self.is_calm => Action::DeleteEvent,
                _ => Action::Promote,
            }
        })
    }
}

fn update(field: EventField, rng: &mut fastrand::Rng) -> Action {
    let waitlist = a_policy(rng);
    let limits = Limits { max_quantity: rng.u32(1..5), ..Limits::default() };
    let values = Definition { capacity: rng.u32(..10), limits, waitlist, ..Definition::default() };
    Action::UpdateEvent(EventUpdate { values, fields: vec![field] }.into())
}

/// A policy of a waitlist.
pub(super) fn a_policy(rng: &mut fastrand::Rng) -> Policy {
    Policy {
        enabled: true,
        max_size: rng.u32(1..5),
        offer_ttl: None,
        max_skips: rng.u32(..3),
        newcomers_may_overtake: rng.bool(),
        join_before_booking: false,
    }
}

impl Way {
    /// Executes the command as a ledger does.
    async fn execute(self, command: Command) -> Result<Answer, OpError> {
        let Self { server: Server { env, queue }, mut strategy, lock_wait, is_dry_run, deadline, .. } = self;
        if strategy == Strategy::Coalesced {
            if lock_wait == LockWait::Wait && !is_dry_run {
                return queue.execute(&env, command, deadline).await;
            }
            strategy = Strategy::Pessimistic;
        }
        let options = ExecOptions { strategy, lock_wait, deadline, validate_only: is_dry_run };
        let own = env.clone();
        let work = async move {
            let (_, reply, stats) = execute_alone(&own, Single::new(command, deadline), &options).await;
            reply.map(|(change, replayed)| Answer { change, replayed, stats })
        };
        env.spawn_tracked(work).await
    }
}
