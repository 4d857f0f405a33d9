//! One batch: many commands, one transaction, one commit.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{Carried, Item};
use crate::{
    domain::{
        command::Command,
        decide::{Commit, Decision, decide},
        event::{Counters, Event},
        ids::EventId,
        refusal::Refusal,
        snapshot::Snapshot,
        time::Timestamp,
    },
    ops::{Ledger, OpError, execute::GRACE},
    store::{
        Budget, StoreError, Tx,
        apply::{self, Decided},
        context::{self, Context},
        events,
    },
};

/// How often a batch is repeated that PostgreSQL undid, or that was overtaken by the clock.
const MAX_ATTEMPTS: u32 = 4;

/// What to do with events whose rows others have locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// Leave their commands out of the batch.
    LeaveOut,
    /// Wait. For batches of one event only: so nobody waits for a lock while holding another.
    WaitFor,
}

/// What became of one command in a batch that was carried out.
enum Fate {
    Decided(Result<Decision, Refusal>),
    /// Its event is locked by others.
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
pub(super) async fn carry_out(ledger: &Ledger, items: Vec<Item>, busy: Busy) -> Vec<Item> {
    let mut left_out = Vec::new();
    let mut parts = VecDeque::from([items]);
    while let Some(mut items) = parts.pop_front() {
        match persist(ledger, &mut items, busy).await {
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
async fn persist(ledger: &Ledger, items: &mut Vec<Item>, busy: Busy) -> Result<(Done, u32), StoreError> {
    let (mut attempts, mut is_unknown) = (0, false);
    loop {
        attempts += 1;
        let latest = items.iter().map(|item| item.deadline).max().unwrap_or_else(Instant::now);
        let result = timeout_at(latest + GRACE, attempt(ledger, items, latest, busy)).await;
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
async fn attempt(ledger: &Ledger, items: &[Item], latest: Instant, busy: Busy) -> Result<Option<Done>, StoreError> {
    let budget = Budget { deadline: latest, max_lock_wait: ledger.settings.max_lock_wait };
    let mut tx = ledger.pool.begin("batch", budget).await?;
    let result = under_locks(&mut tx, items, busy).await;
    tx.finish(result, |done| done.as_ref().is_some_and(Done::has_written)).await
}

impl Done {
    fn has_written(&self) -> bool {
        self.fates.iter().any(|fate| matches!(fate, Fate::Decided(Ok(Decision::Commit(_)))))
    }
}

async fn under_locks(tx: &mut Tx, items: &[Item], busy: Busy) -> Result<Option<Done>, StoreError> {
    let ids: Vec<EventId> =
        items.iter().map(|item| &item.command.event_id).collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let asked = Instant::now();
    let locked = match busy {
        Busy::LeaveOut => events::lock_free_ones(tx, &ids).await?,
        Busy::WaitFor => events::lock_all(tx, &ids).await?,
    };
    let (lock_wait, now) = (asked.elapsed(), Instant::now());

    let commands: Vec<&Command> = items.iter().map(|item| &item.command).collect();
    let contexts = context::load(tx, &commands).await?;
    let mut books = Books::open(locked, contexts, items.len());
    books.add_holds(tx, &commands).await?;

    let fates: Vec<Fate> = items
        .iter()
        .enumerate()
        .map(|(place, item)| if item.deadline <= now { Fate::Late } else { books.decide(place, &item.command) })
        .collect();
    if books.write(tx, &fates, items).await? { Ok(Some(Done { fates, lock_wait, began: asked })) } else { Ok(None) }
}

/// The events of a batch, as they are after the commands decided so far.
struct Books {
    now: Option<Timestamp>,
    /// Whether the event of each command exists, locked by us or by others.
    exists: Vec<bool>,
    snapshots: BTreeMap<EventId, (Counters, Snapshot)>,
}

impl Books {
    fn open(locked: Vec<Event>, contexts: Vec<(usize, Context)>, size: usize) -> Self {
        let opened = |event: Event| (event.id.clone(), (event.counters, Snapshot::new(event)));
        let mut books = Self {
            now: contexts.first().map(|(_, context)| context.now),
            exists: vec![false; size],
            snapshots: locked.into_iter().map(opened).collect(),
        };
        for (place, context) in contexts {
            books.exists[place] = true;
            if let Some((_, snapshot)) = books.snapshots.get_mut(&context.event_id) {
                context.target.into_iter().for_each(|reservation| snapshot.add_reservation(reservation));
                context.record.into_iter().for_each(|change| snapshot.add_record(change));
            }
        }
        books
    }

    /// Adds the holds that lapse first to the events that may need their units.
    async fn add_holds(&mut self, tx: &mut Tx, commands: &[&Command]) -> Result<(), StoreError> {
        let mut needs: BTreeMap<&EventId, u32> = BTreeMap::new();
        for command in commands {
            if let Some((_, snapshot)) = self.snapshots.get(&command.event_id) {
                let need = needs.entry(&command.event_id).or_default();
                *need = need.saturating_add(command.needs(&snapshot.event));
            }
        }
        let short = |id: &EventId, need: u32| {
            let (_, snapshot) = self.snapshots.get(id)?;
            let short = need.saturating_sub(snapshot.event.available());
            // A hold has at least one unit; one more hold tells when the next units may come free.
            (short > 0).then(|| (id.clone(), short.saturating_add(1)))
        };
        let short: Vec<_> = needs.into_iter().filter_map(|(id, need)| short(id, need)).collect();
        let Some(now) = self.now.filter(|_| !short.is_empty()) else { return Ok(()) };
        for hold in context::earliest_holds(tx, &short).await? {
            if let Some((_, snapshot)) = self.snapshots.get_mut(&hold.event_id) {
                snapshot.add_hold(hold, now);
            }
        }
        Ok(())
    }

    fn decide(&mut self, place: usize, command: &Command) -> Fate {
        let Some(((_, snapshot), now)) = self.snapshots.get_mut(&command.event_id).zip(self.now) else {
            return if self.exists[place] { Fate::LeftOut } else { Fate::Decided(Err(Refusal::EventNotFound)) };
        };
        let decision = decide(snapshot, command, now);
        if let Ok(Decision::Commit(commit)) = &decision {
            snapshot.advance(commit);
        }
        Fate::Decided(decision)
    }

    /// Writes what was decided. False: it is no longer so.
    async fn write(&self, tx: &mut Tx, fates: &[Fate], items: &[Item]) -> Result<bool, StoreError> {
        let mut commits: BTreeMap<&EventId, Vec<&Commit>> = BTreeMap::new();
        for (fate, item) in fates.iter().zip(items) {
            if let Fate::Decided(Ok(Decision::Commit(commit))) = fate {
                commits.entry(&item.command.event_id).or_default().push(commit);
            }
        }
        let decided: Vec<_> = commits
            .into_iter()
            .filter_map(|(event_id, commits)| {
                let (seen, _) = self.snapshots.get(event_id)?;
                Some(Decided { event_id, seen: *seen, commits })
            })
            .collect();
        if decided.is_empty() { Ok(true) } else { apply::apply(tx, &decided).await }
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
