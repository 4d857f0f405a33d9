//! One batch: many commands, one transaction, one commit.

use std::{
    collections::{HashSet, VecDeque},
    sync::Mutex,
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::{Instant, timeout_at};

use super::{
    Item,
    books::{Books, Fate, Trail},
    memory::Memory,
    plan::{Plan, Stage},
};
use crate::{
    config::Strategy,
    domain::{command::Command, decide::Decision, ids::EventId},
    ops::{
        Ledger, OpError,
        execute::{Effort, GRACE},
    },
    store::{
        Budget, LockWait, StoreError, Tx,
        apply::{self, Written},
        context, events,
    },
    telemetry::chain,
};

/// How often a batch is repeated that PostgreSQL undid, or that was overtaken by the clock.
const MAX_ATTEMPTS: u32 = 4;

/// How a batch gets its exclusivity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// By the events' versions: read without locks, then write, in one statement that is the whole
    /// transaction, what nobody else has locked or changed meanwhile. Waits for nobody, and leaves out
    /// the commands on those other events.
    Version,
    /// By the event's row lock, waiting for it. For batches of one event only: so nobody waits for a
    /// lock while holding another.
    Lock,
}

/// A batch that waits for its turn to be written.
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    stage: Stage,
    /// When its turn came.
    began: Instant,
}

/// A batch as PostgreSQL has it now.
struct Done {
    fates: Vec<Fate>,
    lock_wait: Duration,
    /// Whether those left out are worth another try with what is read.
    may_be_read: bool,
    writing: Written,
}

/// What became of a batch that was carried out.
#[derive(Default)]
pub(super) struct Carried {
    /// Whether it was done as it was planned, all of it.
    pub(super) went_as_planned: bool,
    /// Its callers, who in that case are not answered yet.
    pub(super) finished: Option<Finished>,
    /// What was written of the plan. None: it is not known, or something else was.
    pub(super) writing: Option<Written>,
    /// The commands that have to be decided under their event's lock.
    pub(super) left_out: Vec<Item>,
}

/// Commands that were carried out, and whose callers wait for their answers.
pub(super) struct Finished {
    items: Vec<Item>,
    done: Done,
    began: Instant,
    attempts: u32,
    /// Commands in the batch, those left out among them.
    batch_size: u32,
}

impl Batch {
    /// A batch whose turn is now, and which is at this stage.
    pub(super) fn new(items: Vec<Item>, stage: Stage) -> Self {
        Self { items, stage, began: Instant::now() }
    }

    /// Brings it to a plan, if it has none. Where that fails, the batch meets the failure again when it is
    /// carried out, and is dealt with there.
    pub(super) async fn plan(&mut self, ledger: &Ledger, memory: &Mutex<Memory>) {
        let stage = std::mem::take(&mut self.stage);
        self.stage = stage.planned(ledger, memory, &self.items).await;
    }

    /// What it will do; to be asked once. None: there is no plan.
    pub(super) fn trail(&mut self) -> Option<Trail> {
        self.stage.trail()
    }
}

/// Carries out commands in the order given, and answers each caller, except where all went as planned:
/// there the next batch comes first.
///
/// A batch that fails for a reason that may lie in one of its commands is cut in two, and so on until
/// the culprit is alone: its neighbours never notice.
pub(super) async fn carry_out(ledger: &Ledger, batch: Batch, by: By) -> Carried {
    let mut carried = Carried::default();
    let mut is_first = true;
    let mut parts = VecDeque::from([batch]);
    while let Some(Batch { mut items, stage, began }) = parts.pop_front() {
        let is_plan = std::mem::take(&mut is_first);
        // What was left out must not be overtaken by what came after it.
        let Carried { left_out, .. } = &mut carried;
        let is_left_out = |item: &mut Item| left_out.iter().any(|left| left.command.event_id == item.command.event_id);
        let behind: Vec<_> = items.extract_if(.., is_left_out).collect();
        left_out.extend(behind);
        if items.is_empty() {
            continue;
        }
        match persist(ledger, &mut items, stage, by).await {
            Ok((done, attempts)) => {
                ledger.metrics.batch_sizes.observe(items.len() as f64);
                let batch_size = u32::try_from(items.len()).unwrap_or(u32::MAX);
                let mut finished = Finished { items, done, began, attempts, batch_size };
                let mut left = finished.take_left_out();
                if is_plan && attempts == 1 {
                    carried.writing = Some(std::mem::take(&mut finished.done.writing));
                    if left.is_empty() {
                        return Carried { went_as_planned: true, finished: Some(finished), ..carried };
                    }
                }
                if finished.done.may_be_read && !left.is_empty() {
                    ledger.metrics.batch_mispredicted.inc_by(left.len() as u64);
                    parts.push_front(Batch { items: left, stage: Stage::Fresh, began });
                } else {
                    carried.left_out.append(&mut left);
                }
                finished.answer(ledger);
            }
            Err(error) if items.len() > 1 && may_be_one_commands_fault(&error) => {
                tracing::warn!(size = items.len(), %error, "a batch failed and is cut in two");
                ledger.metrics.batch_splits.inc();
                let second = items.split_off(items.len() / 2);
                for items in [second, items] {
                    parts.push_front(Batch { items, stage: Stage::Fresh, began });
                }
            }
            Err(error) => {
                log_outage(&error, items.len());
                fail_all(ledger, items, error);
            }
        }
    }
    carried
}

/// Tries a batch until it is done, or fails for good. Where the outcome of a commit is unknown, the
/// commands without a request_id are answered so, and only the others tried again.
async fn persist(ledger: &Ledger, items: &mut Vec<Item>, mut stage: Stage, by: By) -> Result<(Done, u32), StoreError> {
    let (mut attempts, mut is_unknown) = (0, false);
    loop {
        attempts += 1;
        let latest = latest(items);
        let result = timeout_at(latest + GRACE, attempt(ledger, items, std::mem::take(&mut stage), by)).await;
        let error = match result.unwrap_or(Err(StoreError::Deadline)) {
            Ok(Some(done)) => return Ok((done, attempts)),
            // The clock has passed a moment on which a decision rested: decide anew.
            Ok(None) if attempts < MAX_ATTEMPTS => continue,
            Ok(None) => return Err(StoreError::Deadline),
            // What a later attempt says of itself says nothing of the commit before.
            Err(StoreError::Unavailable(error)) if is_unknown => StoreError::OutcomeUnknown(error),
            Err(error) => error,
        };
        ledger.pool.note(&error);
        match error {
            StoreError::OutcomeUnknown(_) => {
                is_unknown = true;
                let unsure: Vec<_> = items.extract_if(.., |item| item.command.request.is_none()).collect();
                log_outage(&error, unsure.len());
                fail_all(ledger, unsure, error.alike());
            }
            StoreError::Repeat(_) | StoreError::Unavailable(_) => {}
            // What the constraint guards holds. Alone, the command is decided once more, on what is
            // there now, and its caller gets the proper answer.
            StoreError::Unique(_) if items.len() == 1 => {}
            other => return Err(other),
        }
        if attempts >= MAX_ATTEMPTS {
            return Err(error);
        }
        ledger.back_off(attempts - 1, latest).await.map_err(|_| StoreError::Deadline)?;
    }
}

/// One transaction. None: what was decided is no longer so.
async fn attempt(ledger: &Ledger, items: &[Item], stage: Stage, by: By) -> Result<Option<Done>, StoreError> {
    let deadline = latest(items);
    match by {
        By::Version => {
            let mut conn = ledger.pool.lease(deadline).await?;
            // Another plan than the one that the next batch is decided upon counts as another attempt.
            if stage.is_outdated(ledger.pool.connections_made()) {
                conn.give_back();
                return Ok(None);
            }
            let result = by_version(&mut conn, items, stage).await;
            if result.as_ref().err().is_none_or(StoreError::spares_the_connection) {
                conn.give_back();
            }
            result.map(Some)
        }
        By::Lock => {
            let budget = Budget { deadline, max_lock_wait: ledger.settings.max_lock_wait };
            let mut tx = ledger.pool.begin("batch", budget).await?;
            let result = under_lock(&mut tx, items).await;
            tx.finish(result, |done| done.as_ref().is_some_and(Done::has_written)).await
        }
    }
}

async fn by_version(conn: &mut PgConnection, items: &[Item], stage: Stage) -> Result<Done, StoreError> {
    let lock_wait = Duration::ZERO;
    let Some(plan) = stage.plan(conn, items).await? else {
        let fates = items.iter().map(|_| Fate::LeftOut).collect();
        return Ok(Done { fates, lock_wait, may_be_read: false, writing: Written::default() });
    };
    let Plan { mut fates, writing, presumed_with, .. } = plan;
    let may_be_read = presumed_with.is_some();
    let writing = match writing {
        Some(writing) => writing.write(conn).await?,
        None => Written::default(),
    };
    leave_out(items, &mut fates, &writing.lost);
    Ok(Done { fates, lock_wait, may_be_read, writing })
}

async fn under_lock(tx: &mut Tx, items: &[Item]) -> Result<Option<Done>, StoreError> {
    let asked = Instant::now();
    let commands = commands(items);
    if let Some(first) = commands.first() {
        events::lock(tx, &first.event_id, LockWait::Wait).await?;
    }
    let lock_wait = asked.elapsed();
    let Some(context) = context::load(tx, &commands).await? else { return Ok(None) };
    let mut books = Books::new(context);
    let fates = books.decide_all(Some(tx), items, By::Lock).await?;
    let decided = books.decided(items, &fates);
    let is_written = decided.is_empty() || apply::apply(tx, &decided).await?;
    let done = Done { fates, lock_wait, may_be_read: false, writing: Written::default() };
    Ok(is_written.then_some(done))
}

pub(super) fn commands(items: &[Item]) -> Vec<&Command> {
    items.iter().map(|item| &item.command).collect()
}

/// When the last of the callers stops listening.
pub(super) fn latest(items: &[Item]) -> Instant {
    items.iter().map(|item| item.deadline).max().unwrap_or_else(Instant::now)
}

/// What was decided on events that could not be written was not decided.
fn leave_out(items: &[Item], fates: &mut [Fate], lost: &HashSet<EventId>) {
    if lost.is_empty() {
        return;
    }
    for (item, fate) in items.iter().zip(fates) {
        if matches!(fate, Fate::Decided(_)) && lost.contains(&item.command.event_id) {
            *fate = Fate::LeftOut;
        }
    }
}

impl Done {
    fn has_written(&self) -> bool {
        self.fates.iter().any(|fate| matches!(fate, Fate::Decided(Ok(Decision::Commit(_)))))
    }
}

impl Finished {
    fn take_left_out(&mut self) -> Vec<Item> {
        let is_left_out = |fate: &Fate| matches!(fate, Fate::LeftOut);
        if !self.done.fates.iter().any(is_left_out) {
            return Vec::new();
        }
        let (items, fates) = (std::mem::take(&mut self.items), std::mem::take(&mut self.done.fates));
        let (left, kept): (Vec<_>, Vec<_>) = items.into_iter().zip(fates).partition(|(_, fate)| is_left_out(fate));
        (self.items, self.done.fates) = kept.into_iter().unzip();
        left.into_iter().map(|(item, _)| item).collect()
    }

    /// Answers each caller.
    pub(super) fn answer(self, ledger: &Ledger) {
        let Self { items, done, began, attempts, batch_size } = self;
        for (item, fate) in items.into_iter().zip(done.fates) {
            let queue_wait = began.saturating_duration_since(item.submitted);
            let effort = Effort {
                attempts: item.left_out + attempts,
                lock_wait: done.lock_wait,
                queue_wait,
                batch_size,
                ..Effort::begun(Strategy::Coalesced)
            };
            let answer = match fate {
                Fate::Decided(Ok(Decision::Commit(mut commit))) => match commit.changes.pop() {
                    Some(change) => Ok((Box::new(change), false)),
                    None => continue,
                },
                Fate::Decided(Ok(Decision::Replay(change))) => Ok((change, true)),
                Fate::Decided(Err(refusal)) => Err(refusal.into()),
                Fate::Late => Err(OpError::Deadline),
                // It was taken out.
                Fate::LeftOut => continue,
            };
            if answer.is_ok() {
                ledger.metrics.batch_wait_seconds.observe(queue_wait.as_secs_f64());
            }
            ledger.answer(item, &effort, answer);
        }
    }
}

fn may_be_one_commands_fault(error: &StoreError) -> bool {
    match error {
        StoreError::Unique(_) | StoreError::Check(_) | StoreError::Unexpected(_) => true,
        StoreError::LockTimeout
        | StoreError::Deadline
        | StoreError::Repeat(_)
        | StoreError::Unavailable(_)
        | StoreError::OutcomeUnknown(_)
        | StoreError::PoolExhausted => false,
    }
}

/// Logs an outage once for all its callers: a full disk is one trouble, and not as many as wait.
fn log_outage(error: &StoreError, callers: usize) {
    let is_outage = matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) | StoreError::Repeat(_));
    if is_outage && callers > 0 {
        tracing::warn!(callers, error = chain(error), "the database is unavailable");
    }
}

/// Gives the same error to all; the first gets the original.
fn fail_all(ledger: &Ledger, items: Vec<Item>, error: StoreError) {
    let copies: Vec<StoreError> = items.iter().skip(1).map(|_| error.alike()).collect();
    for (item, error) in items.into_iter().zip(std::iter::once(error).chain(copies)) {
        ledger.answer(item, &Effort::begun(Strategy::Coalesced), Err(OpError::from(error).logged()));
    }
}
