//! Commands on the event itself are executed by the same engine as all others, in every way.

use std::{sync::Arc, time::Duration};

use reservd::{
    config::{Config, Execution, Strategy},
    domain::{
        caller::Caller,
        command::{Action, Command, EventField, EventUpdate, Join, Reserve, ReserveMode},
        event::{Definition, EventState},
        ids::{EventId, ReservationId, UserId},
        limits::Labels,
        waitlist::Policy,
    },
    ops::{
        Ledger,
        create_events::NewEvent,
        execute::{Answer, ExecOptions},
    },
    store::{LockWait, Pool, PoolSettings},
    telemetry::metrics::Metrics,
};
use tokio::{join, time::Instant};
use uuid::Uuid;

use crate::support::TestDatabase;

const STRATEGIES: [Strategy; 3] = [Strategy::Pessimistic, Strategy::Optimistic, Strategy::Coalesced];

struct World {
    ledger: Ledger,
    event_id: EventId,
}

impl World {
    async fn new(database: &TestDatabase) -> Self {
        let config = Config::load(None, &Vec::new()).expect("the defaults are right");
        let settings = PoolSettings {
            max_connections: 8,
            acquire_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            statement_timeout: Duration::from_secs(60),
            idle_in_transaction_session_timeout: Duration::from_secs(60),
        };
        let pool = Pool::new(database.options.clone(), settings);
        // On a busy machine an OPTIMISTIC command may lose to the others more often than a caller would wait.
        let execution = Execution { max_attempts: 1000, ..config.execution };
        let ledger = Ledger::new(pool, execution, config.watch, Arc::new(Metrics::new()));
        let event_id = EventId::parse("event").expect("valid");
        let waitlist = Policy { enabled: true, ..Policy::default() };
        let definition = Definition { capacity: 3, waitlist, ..Definition::default() };
        let new = NewEvent { id: event_id.clone(), definition, state: EventState::Open, request: None, actor: None };
        ledger.create_events(vec![new], false, deadline()).await.expect("it is new");
        Self { ledger, event_id }
    }

    async fn execute(&self, strategy: Strategy, action: Action) -> Answer {
        let event_id = self.event_id.clone();
        let command = Command {
            event_id,
            action,
            etag: None,
            expected_event_version: None,
            request: None,
            caller: Caller::default(),
        };
        let (lock_wait, deadline) = (LockWait::Wait, deadline());
        let options = ExecOptions { strategy, lock_wait, deadline, validate_only: false };
        self.ledger.execute(command, options).await.expect("it is allowed")
    }

    /// The event's state, capacity, counters and version; and that all of it is right.
    async fn event(&self) -> (EventState, u32, u32, u32, i64) {
        let found = self.ledger.availability(vec![self.event_id.clone()], deadline()).await.expect("it can be read");
        let event = found.into_iter().next().expect("it exists").event;
        let audit = self.ledger.audit(self.event_id.clone(), deadline()).await.expect("it exists");
        assert_eq!(audit.problems(), Vec::<String>::new());
        let counters = event.counters;
        (event.state, event.definition.capacity, counters.reserved(), counters.waiting, counters.version)
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("valid")
}

fn reserve(name: &str) -> Action {
    let (id, mode, labels) = (ReservationId(Uuid::now_v7()), ReserveMode::Hold(None), Labels::default());
    Action::Reserve(Reserve { id, user_id: user(name), quantity: 1, mode, labels })
}

fn join_waitlist(name: &str) -> Action {
    let (id, labels) = (ReservationId::of_waitlist(Uuid::now_v7()), Labels::default());
    Action::Join(Join { id, user_id: user(name), quantity: 1, min_quantity: 1, labels })
}

fn resize(capacity: u32) -> Action {
    let values = Definition { capacity, ..Definition::default() };
    Action::UpdateEvent(EventUpdate { values, fields: vec![EventField::Capacity] }.into())
}

#[tokio::test]
async fn every_event_command_writes_its_row_by_every_strategy() {
    for strategy in STRATEGIES {
        let database = TestDatabase::new().await;
        let world = World::new(&database).await;
        world.execute(strategy, reserve("ann")).await;
        world.execute(strategy, resize(1)).await;
        assert_eq!(world.event().await, (EventState::Open, 1, 1, 0, 3), "{strategy:?}");
        world.execute(strategy, join_waitlist("bob")).await;
        world.execute(strategy, join_waitlist("cid")).await;
        world.execute(strategy, resize(2)).await;
        // The update is version 6, and the promotion that it makes room for 7.
        assert_eq!(world.event().await, (EventState::Open, 2, 2, 1, 7), "{strategy:?}");
        world.execute(strategy, Action::CloseEvent).await;
        assert_eq!(world.event().await, (EventState::Closed, 2, 2, 1, 8), "{strategy:?}");
        world.execute(strategy, Action::OpenEvent).await;
        let answer = world.execute(strategy, Action::CancelEvent { reason: Some("rain".into()) }).await;
        // Two reservations and one entry end before it.
        let record = answer.change.event().expect("it is the event's");
        assert_eq!((answer.change.version, record.cancelled_reservations, record.ended_entries), (13, 2, 1));
        assert_eq!(world.event().await, (EventState::Cancelled, 2, 0, 0, 13), "{strategy:?}");
    }
}

#[tokio::test]
async fn event_commands_of_all_strategies_mix_with_reserves() {
    let database = TestDatabase::new().await;
    let world = World::new(&database).await;
    world.execute(Strategy::Coalesced, resize(1000)).await;
    let reserves = async |strategy, name: &str| {
        for number in 0..20 {
            world.execute(strategy, reserve(&format!("{name}-{number}"))).await;
        }
    };
    let resizes = async |strategy, base: u32| {
        for number in 0..20 {
            world.execute(strategy, resize(base + number)).await;
        }
    };
    let [pessimistic, optimistic, coalesced] = STRATEGIES;
    join!(
        reserves(pessimistic, "ann"),
        reserves(coalesced, "bob"),
        reserves(coalesced, "cid"),
        resizes(pessimistic, 500),
        resizes(optimistic, 600),
        resizes(coalesced, 700),
    );
    let (state, _, reserved, _, version) = world.event().await;
    assert_eq!((state, reserved, version), (EventState::Open, 60, 122));
    let (cancelled, _) =
        join!(world.execute(coalesced, Action::CancelEvent { reason: None }), reserves_until_cancelled(&world),);
    let ended = cancelled.change.event().expect("it is the event's").cancelled_reservations;
    assert!(ended >= 60, "{ended}");
    assert_eq!(world.event().await.2, 0);
}

/// Reserves beside the cancellation are made before it, and end with it, or are refused.
async fn reserves_until_cancelled(world: &World) {
    for number in 0..20 {
        let event_id = world.event_id.clone();
        let action = reserve(&format!("late-{number}"));
        let command = Command {
            event_id,
            action,
            etag: None,
            expected_event_version: None,
            request: None,
            caller: Caller::default(),
        };
        let (strategy, lock_wait, deadline) = (Strategy::Coalesced, LockWait::Wait, deadline());
        let options = ExecOptions { strategy, lock_wait, deadline, validate_only: false };
        if let Err(refused) = world.ledger.execute(command, options).await {
            assert_eq!(refused.reason(), "EVENT_NOT_OPEN");
        }
    }
}
