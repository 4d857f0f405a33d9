//! RunConcurrencyTest: concurrent operations on a scratch event and their results, so that operators can check the
//! service where it is installed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    sync::watch,
    time::{Instant, interval},
};
use uuid::Uuid;

use super::{Ledger, OpError, create_events::NewEvent, execute::ExecOptions, stats::ExecStats};
use crate::{
    config::Strategy,
    domain::{
        caller::Caller,
        command::{Action, Command, Join, Reserve, ReserveMode},
        event::{Definition, EventState},
        ids::{EventId, ReservationId, SeriesId, Target, UserId},
        limits::{self, Labels},
        waitlist::Policy,
    },
    store::LockWait,
};

/// How long one operation may take.
const OPERATION_LIMIT: Duration = Duration::from_secs(30);
/// The longest latency that the histogram records; longer ones count as this long.
const MAX_LATENCY_MICROS: u64 = 60_000_000;
/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What the users of a test do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Each reserves.
    Reserve,
    /// Each goes through a reservation's life.
    Life,
    /// Each reserves or waits, and cancels.
    Waitlist,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The strategy of every operation; they alternate if none.
    pub strategy: Option<Strategy>,
    /// What to do when the row is locked.
    pub lock_wait: LockWait,
    /// How many operations in all.
    pub operations: u32,
    /// How many at once.
    pub concurrency: u32,
    /// The capacity of the scratch event.
    pub capacity: u32,
    /// What the users do.
    pub workload: Workload,
}

/// The result of a test.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scratch event.
    pub event_id: EventId,
    /// The results of the operations.
    pub tally: Tally,
    /// How far the event's version rose.
    pub version_increments: i64,
    /// How long it took.
    pub elapsed: Duration,
    /// The problems found, a sentence each.
    pub problems: Vec<String>,
}

/// The results of some operations.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Those that ended.
    pub operations: u32,
    /// Those that succeeded.
    pub successes: u32,
    /// Those that did not, by reason.
    pub refusals: BTreeMap<&'static str, u32>,
    /// Attempts that found another version than they had read.
    pub conflicts: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Time spent waiting for the row lock: in all, and by one operation at the most.
    pub lock_wait: (Duration, Duration),
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            operations: 0,
            successes: 0,
            refusals: BTreeMap::new(),
            conflicts: 0,
            retries: 0,
            lock_wait: (Duration::ZERO, Duration::ZERO),
            latency: Histogram::new_with_max(MAX_LATENCY_MICROS, 3).expect("the bounds of the histogram are in order"),
        }
    }

    fn add(&mut self, latency: Duration, result: &Result<ExecStats, OpError>) {
        self.operations += 1;
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        match result {
            Ok(effort) => {
                self.successes += 1;
                self.conflicts += u64::from(effort.conflicts);
                self.retries += u64::from(effort.attempts.saturating_sub(1));
                self.lock_wait = (self.lock_wait.0 + effort.lock_wait, self.lock_wait.1.max(effort.lock_wait));
            }
            Err(error) => {
                *self.refusals.entry(error.reason()).or_default() += 1;
                if let OpError::Contention { attempts } = error {
                    self.conflicts += u64::from(*attempts);
                    self.retries += u64::from(attempts.saturating_sub(1));
                }
            }
        }
    }
}

/// What the users of one test share.
struct Run {
    ledger: Ledger,
    plan: Plan,
    event_id: EventId,
    next_user: AtomicU32,
    started: AtomicU32,
    is_abandoned: AtomicBool,
    tally: Mutex<Tally>,
}

impl Ledger {
    /// Runs `plan` on a new event and reports in `progress` how many operations have ended. Ends early when the
    /// receiver of `progress` is dropped. The event stays, cancelled.
    pub async fn run_concurrency_test(&self, plan: Plan, progress: watch::Sender<u32>) -> Result<Report, OpError> {
        let event_id = self.create_scratch_event(plan.capacity).await?;
        let run = Arc::new(Run {
            ledger: self.clone(),
            plan,
            event_id: event_id.clone(),
            next_user: AtomicU32::new(0),
            started: AtomicU32::new(0),
            is_abandoned: AtomicBool::new(false),
            tally: Mutex::new(Tally::new()),
        });
        let began = Instant::now();
        let users: Vec<_> =
            (0..plan.concurrency).map(|_| self.env.tasks.spawn(Arc::clone(&run).live_users())).collect();
        let all_users = async {
            for user in users {
                user.await.map_err(OpError::Crashed)?;
            }
            Ok::<(), OpError>(())
        };
        tokio::pin!(all_users);
        let mut ticks = interval(PROGRESS_INTERVAL);
        loop {
            tokio::select! {
                ended = &mut all_users => break ended?,
                _ = ticks.tick() => {
                    progress.send_replace(run.tally().operations);
                    run.is_abandoned.store(progress.is_closed(), Ordering::Relaxed);
                }
            }
        }
        let elapsed = began.elapsed();
        let tally = run.tally().clone();
        progress.send_replace(tally.operations);
        let report = self.judge(&event_id, tally, elapsed).await?;
        self.execute(
            command(&event_id, Action::CancelEvent { reason: Some("the test is over".into()) }),
            how(None, LockWait::Wait),
        )
        .await?;
        Ok(report)
    }

    async fn create_scratch_event(&self, capacity: u32) -> Result<EventId, OpError> {
        let id = EventId::parse(&format!("scratch-{}", Uuid::now_v7())).expect("a prefix and a UUID are a valid id");
        let definition = Definition {
            display_name: "Scratch event of a concurrency test".into(),
            series_id: SeriesId::parse("reservd-concurrency-test"),
            capacity,
            waitlist: Policy { enabled: true, max_skips: limits::DEFAULT_SKIPS, ..Policy::default() },
            ..Definition::default()
        };
        let new = NewEvent { id: id.clone(), definition, state: EventState::Open, request: None, actor: None };
        self.create_events(vec![new], false, Instant::now() + OPERATION_LIMIT).await?;
        Ok(id)
    }

    async fn judge(&self, event_id: &EventId, tally: Tally, elapsed: Duration) -> Result<Report, OpError> {
        let audit = self.audit(event_id.clone(), Instant::now() + OPERATION_LIMIT).await?;
        let version_increments = audit.version - 1;
        let mut problems = audit.problems();
        let promoted = self.count_promoted(event_id.clone(), Instant::now() + OPERATION_LIMIT).await?;
        if version_increments != i64::from(tally.successes) + promoted {
            let successes = tally.successes;
            problems
                .push(format!("{successes} successes and {promoted} promotions made {version_increments} versions"));
        }
        Ok(Report { event_id: event_id.clone(), tally, version_increments, elapsed, problems })
    }
}

impl Run {
    /// One caller: takes one user after the other until enough operations were started.
    async fn live_users(self: Arc<Self>) {
        loop {
            let user = self.next_user.fetch_add(1, Ordering::Relaxed);
            for action in steps(self.plan.workload, user) {
                let turn = self.started.fetch_add(1, Ordering::Relaxed);
                if turn >= self.plan.operations || self.is_abandoned.load(Ordering::Relaxed) {
                    return;
                }
                self.operate(turn, action).await;
            }
        }
    }

    async fn operate(&self, turn: u32, action: Action) {
        let alternating = [Strategy::Pessimistic, Strategy::Optimistic, Strategy::Coalesced][turn as usize % 3];
        let how = how(Some(self.plan.strategy.unwrap_or(alternating)), self.plan.lock_wait);
        let began = Instant::now();
        let result = self.ledger.execute(command(&self.event_id, action), how).await;
        self.tally().add(began.elapsed(), &result.map(|answer| answer.stats));
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operations of one user.
fn steps(workload: Workload, number: u32) -> Vec<Action> {
    let user = UserId::parse(&format!("user-{number}")).expect("a word and a number are a valid id");
    let target = || Target::User(user.clone());
    let reserve = || {
        Action::Reserve(Reserve {
            id: ReservationId(Uuid::now_v7()),
            user_id: user.clone(),
            quantity: 1,
            mode: ReserveMode::Hold(None),
            labels: Labels::default(),
        })
    };
    match workload {
        Workload::Reserve => vec![reserve()],
        Workload::Life => {
            let mut life = vec![reserve()];
            if number.is_multiple_of(4) {
                life.push(reserve());
            }
            life.extend([
                Action::Extend { target: target(), ttl: None },
                Action::Amend { target: target(), quantity: Some(2), labels: None },
                Action::Confirm { target: target(), quantity: None },
                Action::Cancel { target: target(), quantity: None, reason: None },
            ]);
            life
        }
        Workload::Waitlist => {
            let mut visit = vec![
                reserve(),
                Action::Join(Join {
                    id: ReservationId::of_waitlist(Uuid::now_v7()),
                    user_id: user.clone(),
                    quantity: 1 + number % 2,
                    min_quantity: 1 + number % 2,
                    labels: Labels::default(),
                }),
            ];
            if number.is_multiple_of(8) {
                visit.push(Action::Leave { target: target() });
            }
            visit.extend([
                Action::Confirm { target: target(), quantity: None },
                Action::Cancel { target: target(), quantity: None, reason: None },
            ]);
            visit
        }
    }
}

fn command(event_id: &EventId, action: Action) -> Command {
    Command {
        event_id: event_id.clone(),
        action,
        etag: None,
        expected_event_version: None,
        request: None,
        caller: Caller::default(),
    }
}

fn how(strategy: Option<Strategy>, lock_wait: LockWait) -> ExecOptions {
    ExecOptions {
        strategy: strategy.unwrap_or(Strategy::Pessimistic),
        lock_wait,
        deadline: Instant::now() + OPERATION_LIMIT,
        validate_only: false,
    }
}
