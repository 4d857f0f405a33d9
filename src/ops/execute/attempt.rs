//! One attempt: be exclusive, read, decide, write. Every command is executed by this, in whatever way.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    Env,
    database::{Conn, Database},
    unit::{Atomicity, ConcurrencyControl, Diversion, Job, Outcome},
    working_set::{Draft, Progress, WorkingSet},
};
use crate::{
    domain::{ids::EventId, needs::Needs},
    store::{
        Budget, StoreError,
        write::{NotWritten, WriteMode, Written},
    },
};

/// How often the needs of one batch are read, at the most: each time twice as much is read.
const MAX_LOADS: usize = 10_000;

/// How an attempt is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    /// How it is exclusive.
    pub(super) control: ConcurrencyControl,
    /// What is written whole.
    pub(super) atomicity: Atomicity,
    /// It ends before it writes.
    pub(super) is_dry_run: bool,
    /// Whether it matters why an event is not written.
    pub(super) is_explained: bool,
    /// The longest wait for a row lock.
    pub(super) max_lock_wait: Duration,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Attempted {
    /// What became of each command, in their order.
    pub(super) outcomes: Vec<Outcome>,
    /// Time spent waiting for row locks.
    pub(super) lock_wait: Duration,
    /// What was written.
    pub(super) written: Written,
    /// Whether some commands were decided by speculation.
    pub(super) is_speculative: bool,
}

/// Makes one attempt, with what was decided already, if anything was. None: that is outdated, or the clock has passed a
/// moment on which a decision rests; decide again.
pub(super) async fn attempt<D: Database, T: Job + Sync>(
    env: &Env<D>,
    jobs: &[T],
    mode: &Mode,
    draft: Option<Draft>,
) -> Result<Option<Attempted>, StoreError> {
    let (asked, deadline) = (asked(jobs), latest(jobs));
    match mode.control {
        ConcurrencyControl::Version { .. } => {
            let conn = env.database.autocommit(asked, deadline).await?;
            if draft.as_ref().is_some_and(|draft| draft.is_outdated(env.database.connections_made())) {
                return conn.end(Ok(None), false).await;
            }
            let mut conn = conn;
            let result = by_version(&mut conn, jobs, mode, draft).await;
            conn.end(result.map(Some), false).await
        }
        ConcurrencyControl::RowLock(wait) => {
            let commands: Vec<_> = jobs.iter().map(Job::command).collect();
            let budget = Budget { asked, deadline, max_lock_wait: mode.max_lock_wait };
            let mut conn = env.database.begin(budget, &commands).await?;
            let result = async {
                let (context, lock_wait) = conn.lock_and_read(&commands, wait).await?;
                let mut set = WorkingSet::new(context);
                if !decide_all(&mut conn, &mut set, jobs, mode).await? {
                    return Err(sqlx::Error::Protocol("an event changed under its lock".into()).into());
                }
                write(&mut conn, set.into_draft(), jobs, mode, lock_wait).await
            };
            let result = result.await;
            // Under the lock only the clock can be in the way.
            let is_late = result.as_ref().is_ok_and(|attempted| !attempted.written.passed_over.is_empty());
            let commits = !is_late && result.as_ref().is_ok_and(|attempted| attempted.written.time.is_some());
            conn.end(result.map(|attempted| (!is_late).then_some(attempted)), commits).await
        }
    }
}

async fn by_version<C: Conn, T: Job + Sync>(
    conn: &mut C,
    jobs: &[T],
    mode: &Mode,
    draft: Option<Draft>,
) -> Result<Attempted, StoreError> {
    let draft = match draft {
        Some(draft) => draft,
        None => {
            let commands: Vec<_> = jobs.iter().map(Job::command).collect();
            let mut set = WorkingSet::new(conn.read(&commands).await?);
            if !decide_all(conn, &mut set, jobs, mode).await? {
                let changed = || Outcome::Diverted(Diversion::NotWritten(NotWritten::Changed));
                let outcomes = jobs.iter().map(|_| changed()).collect();
                let (lock_wait, written) = (Duration::ZERO, Written::default());
                return Ok(Attempted { outcomes, lock_wait, written, is_speculative: false });
            }
            set.into_draft()
        }
    };
    write(conn, draft, jobs, mode, Duration::ZERO).await
}

/// Decides all commands, and reads what turns out to be needed. False: an event has changed since it was read.
async fn decide_all<C: Conn, T: Job + Sync>(
    conn: &mut C,
    set: &mut WorkingSet,
    jobs: &[T],
    mode: &Mode,
) -> Result<bool, StoreError> {
    let mut needs = set.foreseeable_needs(jobs);
    for _ in 0..MAX_LOADS {
        if !needs.is_empty() {
            let Some(loaded) = conn.load(set.snapshots(), &needs, set.now()).await? else { return Ok(false) };
            if !set.add(&needs, loaded) {
                return Ok(false);
            }
        }
        needs = match set.proceed(jobs, mode.control, Instant::now()) {
            Progress::Done => return Ok(true),
            Progress::Needs(event_id, needs) => BTreeMap::<EventId, Needs>::from([(event_id, needs)]),
        };
    }
    Err(sqlx::Error::Protocol("a decision needs to see more without end".into()).into())
}

async fn write<C: Conn, T: Job + Sync>(
    conn: &mut C,
    mut draft: Draft,
    jobs: &[T],
    mode: &Mode,
    lock_wait: Duration,
) -> Result<Attempted, StoreError> {
    let is_speculative = draft.is_speculative();
    let is_whole = mode.atomicity == Atomicity::Whole;
    let is_refused = is_whole && draft.outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Accepted(_)));
    let mut written = Written::default();
    if !mode.is_dry_run && !is_refused {
        let writes = draft.writes(jobs);
        if !writes.is_empty() {
            let waits = mode.control == ConcurrencyControl::Version { waits: true };
            let left = latest(jobs).saturating_duration_since(Instant::now()).min(mode.max_lock_wait);
            let lock_timeout = waits.then(|| left.as_millis() + 1);
            let is_explained = mode.is_explained;
            written = conn.write(&writes, WriteMode { is_whole, lock_timeout, is_explained }).await?;
        }
    }
    if is_refused {
        let accepted = draft.outcomes.iter_mut().filter(|outcome| matches!(outcome, Outcome::Accepted(_)));
        accepted.for_each(|outcome| *outcome = Outcome::Diverted(Diversion::Unit));
    }
    if !written.passed_over.is_empty() {
        divert(&mut draft.outcomes, jobs, &written, is_whole);
    }
    Ok(Attempted { outcomes: draft.outcomes, lock_wait, written, is_speculative })
}

/// What was decided on events that were not written was not decided.
fn divert<T: Job>(outcomes: &mut [Outcome], jobs: &[T], written: &Written, is_whole: bool) {
    let first = written.passed_over.values().next().copied();
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let why = written.passed_over.get(&job.command().event_id).copied().or(first.filter(|_| is_whole));
        if let (Outcome::Accepted(_) | Outcome::Replayed(_) | Outcome::Refused(_), Some(why)) = (&*outcome, why) {
            *outcome = Outcome::Diverted(Diversion::NotWritten(why));
        }
    }
}

/// Since when the callers wait, which limits how long they wait for a database that is away. What settles an unknown
/// outcome waits until its deadline.
pub(super) fn asked<T: Job>(jobs: &[T]) -> Instant {
    let asked = |job: &T| if job.is_unsure() { Instant::now() } else { job.submitted() };
    jobs.iter().map(asked).min().unwrap_or_else(Instant::now)
}

/// When the last of the callers stops listening.
pub(super) fn latest<T: Job>(jobs: &[T]) -> Instant {
    jobs.iter().map(Job::deadline).max().unwrap_or_else(Instant::now)
}
