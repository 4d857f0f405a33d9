//! Executes commands: one engine, used in three ways.
//!
//! An [`attempt`] is exclusive by the events' versions or by their row locks, reads, decides and writes; [`retry`] makes
//! attempts until each command has its reply. PESSIMISTIC is one command under the row lock. OPTIMISTIC is one command by
//! the version, repeated with back-off where the event has changed. COALESCED is a [`queue`] that makes batches by the
//! version, and diverts contended events to the row lock. Event commands, expiry, promotion and `validate_only` are the
//! same attempt.

mod attempt;
mod database;
mod event_cache;
pub(super) mod queue;
mod retry;
#[cfg(test)]
mod simulation;
mod unit;
mod working_set;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use attempt::Mode;
use retry::{Batch, Replies, run};
use unit::{Atomicity, ConcurrencyControl, Diversion, Job, Reply, where_unsure};

pub(super) use database::Database;
pub use unit::{Answer, ExecOptions};

use super::{
    Ledger, OpError,
    env::{Env, MAX_REPEATS},
    stats::ExecStats,
};
use crate::{
    config::Strategy,
    domain::{change::Change, command::Command, ids::EventId},
    store::{LockWait, write::NotWritten},
};

/// A command by itself.
struct Single {
    command: Command,
    submitted: Instant,
    deadline: Instant,
    is_unsure: bool,
}

impl Single {
    fn new(command: Command, deadline: Instant) -> Self {
        Self { command, submitted: Instant::now(), deadline, is_unsure: false }
    }
}

impl Job for Single {
    fn command(&self) -> &Command {
        &self.command
    }

    fn submitted(&self) -> Instant {
        self.submitted
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    fn make_unsure(&mut self) {
        self.is_unsure = true;
    }
}

/// The reply to one command.
struct SingleReply(Option<(Single, Reply, ExecStats)>);

impl Replies<Single> for SingleReply {
    fn reply(&mut self, job: Single, reply: Reply, stats: ExecStats, _: Instant) {
        self.0 = Some((job, reply, stats));
    }
}

impl Ledger {
    /// Executes `command`, to its end, whether or not the caller goes on waiting.
    pub async fn execute(&self, command: Command, options: ExecOptions) -> Result<Answer, OpError> {
        if self.hold_limit.applies_to(&command) {
            return self.execute_in_turn(command, options).await;
        }
        self.execute_now(command, options).await
    }

    /// The same, with nothing to wait for before.
    pub(super) async fn execute_now(&self, command: Command, mut options: ExecOptions) -> Result<Answer, OpError> {
        if options.strategy == Strategy::Coalesced {
            if options.lock_wait == LockWait::Wait && !options.validate_only {
                return self.queue.execute(&self.env, command, options.deadline).await;
            }
            // A batch has many callers: it can't fail for one that does not wait.
            options.strategy = Strategy::Pessimistic;
        }
        let env = self.env.clone();
        // Boxed: it is large, and moves on its way into a task.
        let work = Box::pin(async move {
            let single = Single::new(command, options.deadline);
            let (single, reply, stats) = execute_alone(&env, single, &options).await;
            if !options.validate_only {
                env.count(&single.command, &stats, reply.as_ref().map(|(_, replayed)| *replayed));
            }
            reply.map(|(change, replayed)| Answer { change, replayed, stats })
        });
        self.env.spawn_tracked(work).await
    }
}

/// Executes commands of the ledger's own together, by the version; then, event by event, those whose events others had
/// locked or changed. Returns the changes; refusals and events that stay locked are no failure.
pub(super) async fn execute_own<D: Database>(
    env: &Env<D>,
    commands: Vec<Command>,
    deadline: Instant,
    max_lock_wait: Duration,
) -> Result<Vec<Change>, OpError> {
    let jobs = commands.into_iter().map(|command| Single::new(command, deadline)).collect();
    let by_version = ConcurrencyControl::Version { waits: false };
    let mut mode = Mode {
        control: by_version,
        atomicity: Atomicity::EachEvent,
        is_dry_run: false,
        is_explained: false,
        max_lock_wait,
    };
    let mut replies = OwnReplies { changes: Vec::new(), failure: None };
    let mut contended = BTreeMap::<EventId, Vec<Single>>::new();
    for (job, _) in run_all(env, jobs, &mode, &mut replies).await {
        contended.entry(job.command.event_id.clone()).or_default().push(job);
    }
    mode.control = ConcurrencyControl::RowLock(LockWait::Wait);
    for jobs in contended.into_values() {
        run_all(env, jobs, &mode, &mut replies).await;
    }
    replies.changes.iter().for_each(|change| env.feed.note(change.event_id()));
    replies.failure.map_or(Ok(replies.changes), Err)
}

async fn run_all<D: Database>(
    env: &Env<D>,
    jobs: Vec<Single>,
    mode: &Mode,
    replies: &mut OwnReplies,
) -> Vec<(Single, Diversion)> {
    let batch = Batch { jobs, draft: None, began: Instant::now() };
    let mut result = run(env, batch, mode, Strategy::Pessimistic, replies).await;
    if let Some(executed) = result.as_planned.take() {
        executed.reply(replies);
    }
    result.diverted
}

/// The replies to commands of the ledger's own.
struct OwnReplies {
    changes: Vec<Change>,
    failure: Option<OpError>,
}

impl Replies<Single> for OwnReplies {
    fn reply(&mut self, _: Single, reply: Reply, _: ExecStats, _: Instant) {
        match reply {
            Ok((change, _)) => self.changes.push(*change),
            Err(OpError::Refused(_) | OpError::LockTimeout) => {}
            Err(error) => self.failure = Some(error),
        }
    }
}

/// Executes one command by its strategy.
async fn execute_alone<D: Database>(
    env: &Env<D>,
    mut single: Single,
    options: &ExecOptions,
) -> (Single, Reply, ExecStats) {
    let is_optimistic = options.strategy == Strategy::Optimistic || options.validate_only;
    let waits = options.lock_wait == LockWait::Wait;
    let by_version = ConcurrencyControl::Version { waits };
    let mut mode = Mode {
        control: if is_optimistic { by_version } else { ConcurrencyControl::RowLock(options.lock_wait) },
        atomicity: Atomicity::Whole,
        is_dry_run: options.validate_only,
        is_explained: is_optimistic,
        max_lock_wait: env.settings.max_lock_wait,
    };
    let mut sum = ExecStats::begun(options.strategy);
    loop {
        let strategy = if mode.control == by_version { options.strategy } else { Strategy::Pessimistic };
        let mut replies = SingleReply(None);
        let batch = Batch { jobs: vec![single], draft: None, began: Instant::now() };
        let mut result = run(env, batch, &mode, strategy, &mut replies).await;
        if let Some(executed) = result.as_planned.take() {
            executed.reply(&mut replies);
        }
        sum.strategy = strategy;
        let error = match (replies.0, result.diverted.pop()) {
            (Some((single, reply, stats)), _) => {
                let stats = ExecStats { attempts: sum.attempts + stats.attempts, conflicts: sum.conflicts, ..stats };
                return (single, reply, stats);
            }
            (None, Some((it, why))) => {
                single = it;
                sum.attempts += 1;
                match why {
                    Diversion::Clock => {
                        // A refusal that rests on the clock is decided under the lock.
                        mode.control = ConcurrencyControl::RowLock(options.lock_wait);
                        mode.is_explained = false;
                        continue;
                    }
                    Diversion::NotWritten(NotWritten::Locked) if !waits => Some(OpError::LockTimeout),
                    _ => {
                        sum.conflicts += 1;
                        let attempts = sum.attempts;
                        let is_last = attempts >= env.settings.max_attempts;
                        if is_last { Some(OpError::Contention { attempts }) } else { None }
                    }
                }
            }
            (None, None) => unreachable!("a command has its reply, or is diverted"),
        };
        if let Some(error) = error {
            let error = where_unsure(error, &single);
            return (single, Err(error), sum);
        }
        if let Err(error) = env.back_off(sum.attempts - 1, options.deadline).await {
            return (single, Err(error), sum);
        }
    }
}
