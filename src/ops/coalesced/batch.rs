//! One batch: many commands, one transaction, one commit.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::{Instant, timeout_at};

use super::{Carried, Item};
use crate::{
    domain::{
        command::Command,
        decide::{Commit, Decision, decide},
        event::Counters,
        ids::EventId,
        refusal::Refusal,
        snapshot::Snapshot,
        time::Timestamp,
    },
    ops::{Ledger, OpError, execute::GRACE, line},
    store::{
        Budget, LockWait, StoreError, Tx,
        apply::{self, Decided},
        context::{self, Context},
        events,
    },
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

/// What became of one command in a batch that was carried out.
enum Fate {
    Decided(Result<Decision, Refusal>),
    /// It has to be decided under its event's lock.
    LeftOut,
    /// Its time was over before its turn.
    Late,
}

/// A batch that was carried out.
struct Done {
    fates: Vec<Fate>,
    lock_wait: Duration,
    began: Instant,
}

/// Carries out commands in the order given, and answers each caller. Returns the commands that were
/// left out.
///
/// A batch that fails for a reason that may lie in one of its commands is cut in two, and so on until
/// the culprit is alone: its neighbours never notice.
pub(super) async fn carry_out(ledger: &Ledger, items: Vec<Item>, by: By) -> Vec<Item> {
    let mut left_out = Vec::new();
    let mut parts = VecDeque::from([items]);
    while let Some(mut items) = parts.pop_front() {
        match persist(ledger, &mut items, by).await {
            Ok((done, attempts)) => {
                ledger.metrics.batch_sizes.observe(items.len() as f64);
                left_out.extend(answer(ledger, items, done, attempts));
            }
            Err(error) if items.len() > 1 && may_be_one_commands_fault(&error) => {
                tracing::warn!(size = items.len(), %error, "a batch failed and is cut in two");
                ledger.metrics.batch_splits.inc();
                let second = items.split_off(items.len() / 2);
                parts.push_front(second);
                parts.push_front(items);
            }
            Err(error) => fail_all(items, error),
        }
    }
    left_out
}

/// Tries a batch until it is done, or fails for good. Where the outcome of a commit is unknown, the
/// commands without a request_id are answered so, and only the others tried again.
async fn persist(ledger: &Ledger, items: &mut Vec<Item>, by: By) -> Result<(Done, u32), StoreError> {
    let (mut attempts, mut is_unknown) = (0, false);
    loop {
        attempts += 1;
        let latest = items.iter().map(|item| item.deadline).max().unwrap_or_else(Instant::now);
        let result = timeout_at(latest + GRACE, attempt(ledger, items, latest, by)).await;
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
                for item in items.extract_if(.., |item| item.command.request.is_none()) {
                    let cause = StoreError::OutcomeUnknown(sqlx::Error::WorkerCrashed);
                    answer_one(item, Err(cause.into()));
                }
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
async fn attempt(ledger: &Ledger, items: &[Item], latest: Instant, by: By) -> Result<Option<Done>, StoreError> {
    match by {
        By::Version => {
            let mut conn = ledger.pool.lease(latest).await?;
            let result = by_version(&mut conn, items).await;
            if result.as_ref().err().is_none_or(StoreError::spares_the_connection) {
                conn.give_back();
            }
            result.map(Some)
        }
        By::Lock => {
            let budget = Budget { deadline: latest, max_lock_wait: ledger.settings.max_lock_wait };
            let mut tx = ledger.pool.begin("batch", budget).await?;
            let result = under_lock(&mut tx, items).await;
            tx.finish(result, |done| done.as_ref().is_some_and(Done::has_written)).await
        }
    }
}

async fn by_version(conn: &mut PgConnection, items: &[Item]) -> Result<Done, StoreError> {
    let began = Instant::now();
    let commands: Vec<&Command> = items.iter().map(|item| &item.command).collect();
    let fates = match context::load(conn, &commands).await? {
        Some(context) => {
            let mut books = Books::new(context);
            let mut fates = books.decide_all(conn, items, By::Version).await?;
            let decided = books.decided(items, &fates);
            if !decided.is_empty() {
                let written = apply::apply_alone(conn, &decided).await?;
                let ids = decided.iter().map(|decided| decided.event_id);
                let lost: HashSet<EventId> = ids.filter(|id| !written.contains(id)).cloned().collect();
                leave_out(items, &mut fates, &lost);
            }
            fates
        }
        None => items.iter().map(|_| Fate::LeftOut).collect(),
    };
    Ok(Done { fates, lock_wait: Duration::ZERO, began })
}

async fn under_lock(tx: &mut Tx, items: &[Item]) -> Result<Option<Done>, StoreError> {
    let began = Instant::now();
    let commands: Vec<&Command> = items.iter().map(|item| &item.command).collect();
    if let Some(first) = commands.first() {
        events::lock(tx, &first.event_id, LockWait::Wait).await?;
    }
    let lock_wait = began.elapsed();
    let Some(context) = context::load(tx, &commands).await? else { return Ok(None) };
    let mut books = Books::new(context);
    let fates = books.decide_all(tx, items, By::Lock).await?;
    let decided = books.decided(items, &fates);
    let is_written = decided.is_empty() || apply::apply(tx, &decided).await?;
    Ok(is_written.then_some(Done { fates, lock_wait, began }))
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

/// The events of a batch, as they are after the commands decided so far.
struct Books {
    now: Timestamp,
    snapshots: BTreeMap<EventId, Snapshot>,
    /// The counters of the events as they were loaded.
    seen: BTreeMap<EventId, Counters>,
    /// Who gets the places that a command frees, by the command's place in the batch.
    promotions: BTreeMap<usize, Vec<Commit>>,
}

impl Books {
    fn new(Context { now, snapshots }: Context) -> Self {
        let seen = snapshots.iter().map(|(id, snapshot)| (id.clone(), snapshot.event.counters)).collect();
        Self { now, snapshots, seen, promotions: BTreeMap::new() }
    }

    /// Decides each command on what those before it have left, and who is served with what it frees.
    async fn decide_all(&mut self, conn: &mut PgConnection, items: &[Item], by: By) -> Result<Vec<Fate>, StoreError> {
        let now = Instant::now();
        let mut put_off: HashSet<&EventId> = HashSet::new();
        let mut fates = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let event_id = &item.command.event_id;
            // What comes after a command that was put off must not overtake it.
            let fate = if item.deadline <= now {
                Fate::Late
            } else if put_off.contains(event_id) {
                Fate::LeftOut
            } else {
                let decision = self.decide(&item.command);
                if let Ok(Decision::Commit(_)) = &decision {
                    self.serve(conn, place, event_id).await?;
                }
                Fate::Decided(decision)
            };
            fates.push(match fate {
                Fate::Decided(Err(no)) if by == By::Version && no.rests_on_the_clock() => {
                    put_off.insert(event_id);
                    Fate::LeftOut
                }
                fate => fate,
            });
        }
        Ok(fates)
    }

    async fn serve(&mut self, conn: &mut PgConnection, place: usize, event_id: &EventId) -> Result<(), StoreError> {
        let Some(snapshot) = self.snapshots.get_mut(event_id) else { return Ok(()) };
        let promotions = line::serve(conn, snapshot, self.now).await?;
        if !promotions.is_empty() {
            self.promotions.insert(place, promotions);
        }
        Ok(())
    }

    fn decide(&mut self, command: &Command) -> Result<Decision, Refusal> {
        let snapshot = self.snapshots.get_mut(&command.event_id).ok_or(Refusal::EventNotFound)?;
        let decision = decide(snapshot, command, self.now)?;
        if let Decision::Commit(commit) = &decision {
            snapshot.advance(commit);
        }
        Ok(decision)
    }

    /// What there is to write.
    fn decided<'a>(&'a self, items: &'a [Item], fates: &'a [Fate]) -> Vec<Decided<'a>> {
        let mut commits: BTreeMap<&EventId, Vec<&Commit>> = BTreeMap::new();
        for (place, (fate, item)) in fates.iter().zip(items).enumerate() {
            if let Fate::Decided(Ok(Decision::Commit(commit))) = fate {
                let commits = commits.entry(&item.command.event_id).or_default();
                commits.push(commit);
                commits.extend(self.promotions.get(&place).into_iter().flatten());
            }
        }
        let decided = |(event_id, commits)| Some(Decided { event_id, seen: *self.seen.get(event_id)?, commits });
        commits.into_iter().filter_map(decided).collect()
    }
}

/// Answers the commands of a batch that was carried out, and returns those left out.
fn answer(ledger: &Ledger, items: Vec<Item>, done: Done, attempts: u32) -> Vec<Item> {
    let batch_size = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut left_out = Vec::new();
    for (item, fate) in items.into_iter().zip(done.fates) {
        let (change, replayed) = match fate {
            Fate::Decided(Ok(Decision::Commit(mut commit))) => match commit.changes.pop() {
                Some(change) => (Box::new(change), false),
                None => continue,
            },
            Fate::Decided(Ok(Decision::Replay(change))) => (change, true),
            Fate::Decided(Err(refusal)) => {
                answer_one(item, Err(refusal.into()));
                continue;
            }
            Fate::Late => {
                answer_one(item, Err(OpError::Deadline));
                continue;
            }
            Fate::LeftOut => {
                left_out.push(item);
                continue;
            }
        };
        let queue_wait = done.began.saturating_duration_since(item.submitted);
        ledger.metrics.batch_wait_seconds.observe(queue_wait.as_secs_f64());
        let lock_wait = done.lock_wait;
        answer_one(item, Ok(Carried { change, replayed, attempts, batch_size, lock_wait, queue_wait }));
    }
    left_out
}

/// A caller that no longer listens has its answer by its request_id.
fn answer_one(item: Item, answer: super::Answer) {
    let _ = item.answer.send(answer);
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

/// Gives the same error to all; the first gets the original.
fn fail_all(items: Vec<Item>, error: StoreError) {
    let copies: Vec<StoreError> = items.iter().skip(1).map(|_| error.alike()).collect();
    for (item, error) in items.into_iter().zip(std::iter::once(error).chain(copies)) {
        answer_one(item, Err(error.into()));
    }
}
