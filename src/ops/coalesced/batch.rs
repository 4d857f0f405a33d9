//! One batch: many commands, one transaction, one commit.

use std::{
    collections::{HashSet, VecDeque},
    panic::AssertUnwindSafe,
    time::Duration,
};

use futures::FutureExt;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout_at};

use super::{
    Item,
    books::{Books, Fate, Trail},
};
use crate::{
    config::Strategy,
    domain::{command::Command, decide::Decision, ids::EventId},
    ops::{
        Ledger, OpError,
        execute::{Effort, GRACE},
    },
    store::{
        Budget, LockWait, StoreError, Tx, apply,
        context::{self, Context},
        events,
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

/// A batch that was carried out.
struct Done {
    fates: Vec<Fate>,
    /// What it did, where the next batch may have been read ahead.
    trail: Option<Trail>,
    lock_wait: Duration,
}

/// A batch that waits for its turn to be written.
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// What was read for it already, if that can be used.
    pub(super) books: Option<Books>,
    /// Whether the next one is read while it is written.
    pub(super) is_followed: bool,
    /// When its turn came.
    pub(super) began: Instant,
}

/// What is left of a batch that was carried out.
#[derive(Default)]
pub(super) struct Rest {
    /// The commands that have to be decided under their event's lock.
    pub(super) left_out: Vec<Item>,
    /// What the batch did, where all of it is known and somebody wants to know it.
    pub(super) trail: Option<Trail>,
}

impl Batch {
    /// A batch for which nothing was read yet, and whose turn is now.
    pub(super) fn new(items: Vec<Item>) -> Self {
        Self { items, books: None, is_followed: false, began: Instant::now() }
    }

    /// Reads what the batch is decided on, unless it was read ahead. Where that fails, the batch meets
    /// the failure again when it is carried out, and is dealt with there.
    pub(super) async fn read(&mut self, ledger: &Ledger) {
        if self.books.is_none() {
            let read = read(ledger, &self.items, async |conn, commands| context::load(conn, commands).await);
            self.books = read.await.flatten().map(Books::new);
        }
    }
}

/// Reads what `items` will be decided on, while the batch before them is written.
pub(super) async fn read_ahead(ledger: &Ledger, items: &[Item]) -> Option<Context> {
    read(ledger, items, async |conn, commands| context::load_without_holds(conn, commands).await).await
}

async fn read<T>(
    ledger: &Ledger,
    items: &[Item],
    load: impl AsyncFnOnce(&mut PgConnection, &[&Command]) -> Result<T, StoreError>,
) -> Option<T> {
    let deadline = latest(items);
    let reading = async {
        let mut conn = ledger.pool.lease(deadline).await?;
        let read = load(&mut conn, &commands(items)).await?;
        conn.give_back();
        Ok::<_, StoreError>(read)
    };
    AssertUnwindSafe(timeout_at(deadline, reading)).catch_unwind().await.ok()?.ok()?.ok()
}

/// Carries out commands in the order given, and answers each caller.
///
/// A batch that fails for a reason that may lie in one of its commands is cut in two, and so on until
/// the culprit is alone: its neighbours never notice.
pub(super) async fn carry_out(ledger: &Ledger, batch: Batch, by: By) -> Rest {
    let mut rest = Rest::default();
    let mut parts = VecDeque::from([batch]);
    while let Some(Batch { mut items, books, is_followed, began }) = parts.pop_front() {
        match persist(ledger, &mut items, books, is_followed, by).await {
            Ok((mut done, attempts)) => {
                ledger.metrics.batch_sizes.observe(items.len() as f64);
                rest.trail = done.trail.take();
                rest.left_out.extend(answer_all(ledger, items, done, began, attempts));
            }
            Err(error) if items.len() > 1 && may_be_one_commands_fault(&error) => {
                tracing::warn!(size = items.len(), %error, "a batch failed and is cut in two");
                ledger.metrics.batch_splits.inc();
                let second = items.split_off(items.len() / 2);
                parts.push_front(Batch { items: second, books: None, is_followed, began });
                parts.push_front(Batch { items, books: None, is_followed, began });
            }
            Err(error) => {
                log_outage(&error, items.len());
                fail_all(ledger, items, error);
            }
        }
    }
    rest
}

/// Tries a batch until it is done, or fails for good. Where the outcome of a commit is unknown, the
/// commands without a request_id are answered so, and only the others tried again.
async fn persist(
    ledger: &Ledger,
    items: &mut Vec<Item>,
    mut books: Option<Books>,
    is_followed: bool,
    by: By,
) -> Result<(Done, u32), StoreError> {
    let (mut attempts, mut is_unknown) = (0, false);
    loop {
        attempts += 1;
        let latest = latest(items);
        let result = timeout_at(latest + GRACE, attempt(ledger, items, books.take(), is_followed, by)).await;
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
async fn attempt(
    ledger: &Ledger,
    items: &[Item],
    books: Option<Books>,
    is_followed: bool,
    by: By,
) -> Result<Option<Done>, StoreError> {
    let deadline = latest(items);
    match by {
        By::Version => {
            let mut conn = ledger.pool.lease(deadline).await?;
            let result = by_version(&mut conn, items, books, is_followed).await;
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

async fn by_version(
    conn: &mut PgConnection,
    items: &[Item],
    books: Option<Books>,
    is_followed: bool,
) -> Result<Done, StoreError> {
    let lock_wait = Duration::ZERO;
    let books = match books {
        Some(books) => Some(books),
        None => context::load(conn, &commands(items)).await?.map(Books::new),
    };
    let Some(mut books) = books else {
        let fates = items.iter().map(|_| Fate::LeftOut).collect();
        return Ok(Done { fates, trail: None, lock_wait });
    };
    let mut fates = books.decide_all(conn, items, By::Version).await?;
    let decided = books.decided(items, &fates);
    let trail = is_followed.then(|| books.trail(&decided));
    if !decided.is_empty() {
        let written = apply::apply_alone(conn, &decided).await?;
        let ids = decided.iter().map(|decided| decided.event_id);
        let lost: HashSet<EventId> = ids.filter(|id| !written.contains(id)).cloned().collect();
        leave_out(items, &mut fates, &lost);
    }
    Ok(Done { fates, trail, lock_wait })
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
    let fates = books.decide_all(tx, items, By::Lock).await?;
    let decided = books.decided(items, &fates);
    let is_written = decided.is_empty() || apply::apply(tx, &decided).await?;
    Ok(is_written.then_some(Done { fates, trail: None, lock_wait }))
}

fn commands(items: &[Item]) -> Vec<&Command> {
    items.iter().map(|item| &item.command).collect()
}

/// When the last of the callers stops listening.
fn latest(items: &[Item]) -> Instant {
    items.iter().map(|item| item.deadline).max().unwrap_or_else(Instant::now)
}

/// What was decided on events that could not be written was not decided.
fn leave_out(items: &[Item], fates: &mut [Fate], lost: &HashSet<EventId>) {
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

/// Answers the commands of a batch that was carried out, and returns those left out.
fn answer_all(ledger: &Ledger, items: Vec<Item>, done: Done, began: Instant, attempts: u32) -> Vec<Item> {
    let batch_size = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut left_out = Vec::new();
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
            Fate::LeftOut => {
                left_out.push(item);
                continue;
            }
        };
        if answer.is_ok() {
            ledger.metrics.batch_wait_seconds.observe(queue_wait.as_secs_f64());
        }
        ledger.answer(item, &effort, answer);
    }
    left_out
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
