//! Carries a command out: picks the executor, repeats what is worth repeating, and reports.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Ledger, OpError, attempt::Step};
use crate::{
    config::Strategy,
    domain::{backoff::full_jitter, change::Change, command::Command},
    store::{LockWait, StoreError},
};

/// How much longer than its deadline an execution may run: PostgreSQL's own time-out then speaks
/// first, and the connection is saved.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// How often a transaction is repeated that PostgreSQL or a broken connection undid.
const MAX_REPEATS: u32 = 4;

/// How to carry a command out.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// How to get exclusivity.
    pub strategy: Strategy,
    /// What to do when the event's row is locked.
    pub lock_wait: LockWait,
    /// When the caller stops listening.
    pub deadline: Instant,
    /// Decide, but change nothing.
    pub validate_only: bool,
}

/// What was done, and how.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The change that answers the command.
    pub change: Box<Change>,
    /// Whether it was made before, by the same request.
    pub replayed: bool,
    /// How it was done.
    pub effort: Effort,
}

/// What an execution took.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The strategy that was used last.
    pub strategy: Strategy,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it met another version than it had read.
    pub conflicts: u32,
    /// Time spent on getting the row lock.
    pub lock_wait: Duration,
    /// Time spent on waiting for a turn in a batch.
    pub queue_wait: Duration,
    /// How many commands were committed together.
    pub batch_size: u32,
}

impl Effort {
    pub(super) fn begun(strategy: Strategy) -> Self {
        let none = Duration::ZERO;
        Self { strategy, attempts: 0, conflicts: 0, lock_wait: none, queue_wait: none, batch_size: 1 }
    }

    /// Time spent on waiting for others.
    pub fn waited(&self) -> Duration {
        self.lock_wait + self.queue_wait
    }
}

impl Ledger {
    /// Carries `command` out, to its end, whether or not the caller goes on waiting.
    pub async fn execute(&self, command: Command, how: How) -> Result<Outcome, OpError> {
        if self.hold_limit.minds(&command) {
            return self.execute_in_turn(command, how).await;
        }
        self.execute_now(command, how).await
    }

    /// The same, with nothing to wait for before.
    pub(super) async fn execute_now(&self, command: Command, mut how: How) -> Result<Outcome, OpError> {
        if how.strategy == Strategy::Coalesced && !how.validate_only {
            if how.lock_wait == LockWait::Wait {
                return self.coalesce(command, &how).await;
            }
            // A batch has many callers: it can't fail for one that won't wait.
            how.strategy = Strategy::Pessimistic;
        }
        let ledger = self.clone();
        // Boxed: it is large, and moves on its way into a task.
        let work = Box::pin(async move {
            let mut effort = Effort::begun(how.strategy);
            let result = timeout_at(how.deadline + GRACE, ledger.try_until_done(&command, how, &mut effort))
                .await
                .unwrap_or(Err(OpError::Deadline));
            if !how.validate_only {
                ledger.count(&command, &effort, result.as_ref().map(|(_, replayed)| *replayed));
            }
            result.map(|(change, replayed)| Outcome { change, replayed, effort })
        });
        self.detached(work).await
    }

    async fn try_until_done(
        &self,
        command: &Command,
        mut how: How,
        effort: &mut Effort,
    ) -> Result<(Box<Change>, bool), OpError> {
        let (mut repeats, mut is_unknown) = (0, false);
        loop {
            effort.attempts += 1;
            effort.strategy = how.strategy;
            let step = match how.strategy {
                _ if how.validate_only => self.rehearse(command, &how).await,
                Strategy::Optimistic => self.attempt_optimistic(command, &how).await,
                // A batch has its own way of repeating; what comes here by that name only rehearses.
                Strategy::Pessimistic | Strategy::Coalesced => {
                    self.attempt_pessimistic(command, &how, &mut effort.lock_wait).await
                }
            };
            match step {
                Ok(Step::Done { change, replayed }) => return Ok((change, replayed)),
                Ok(Step::Refused(no)) if no.rests_on_the_clock() && how.strategy == Strategy::Optimistic => {
                    how.strategy = Strategy::Pessimistic;
                    continue;
                }
                Ok(Step::Refused(no)) => return Err(no.into()),
                Ok(Step::Stale) => {
                    effort.conflicts += 1;
                    if effort.attempts >= self.settings.max_attempts {
                        return Err(OpError::Contention { attempts: effort.attempts });
                    }
                }
                Err(error) => {
                    self.pool.note(&error);
                    repeats += 1;
                    is_unknown |= matches!(error, StoreError::OutcomeUnknown(_));
                    if repeats > MAX_REPEATS || !is_worth_repeating(&error, command) {
                        return Err(match OpError::from(error) {
                            // What a later attempt says of itself says nothing of the commit before.
                            OpError::Unavailable { cause, .. } => {
                                OpError::Unavailable { outcome_unknown: is_unknown, cause }
                            }
                            other => other,
                        });
                    }
                }
            }
            self.back_off(effort.attempts - 1, how.deadline).await?;
        }
    }

    /// Waits before the next attempt; refuses where the deadline would pass meanwhile.
    pub(super) async fn back_off(&self, retry: u32, deadline: Instant) -> Result<(), OpError> {
        let wait = full_jitter(retry, self.settings.backoff_base, self.settings.backoff_cap, fastrand::f64());
        if Instant::now() + wait >= deadline {
            return Err(OpError::Deadline);
        }
        sleep(wait).await;
        Ok(())
    }

    /// Counts an execution and its outcome: whether it was a replay, or what went wrong.
    pub(super) fn count(&self, command: &Command, effort: &Effort, result: Result<bool, &OpError>) {
        let (operation, strategy, metrics) = (command.operation(), effort.strategy.name(), &self.metrics);
        let outcome = match result {
            Ok(false) => "ok",
            Ok(true) => "replayed",
            Err(error) => error.reason(),
        };
        metrics.outcomes.with_label_values(&[operation, strategy, outcome]).inc();
        metrics.version_conflicts.with_label_values(&[operation]).inc_by(effort.conflicts.into());
        let retries = effort.attempts.saturating_sub(1);
        metrics.retries.with_label_values(&[operation, strategy]).inc_by(retries.into());
        if effort.strategy != Strategy::Optimistic {
            metrics.lock_wait_seconds.with_label_values(&[operation]).observe(effort.lock_wait.as_secs_f64());
        }
        self.contention.note(&command.event_id, effort);
        if matches!(result, Ok(false)) {
            self.feed.note(&command.event_id);
        }
    }
}

/// Whether an attempt that failed for the database's sake left no doubt that nothing was written, or
/// carries a request_id, which makes a second try safe.
fn is_worth_repeating(error: &StoreError, command: &Command) -> bool {
    match error {
        StoreError::Repeat(_) | StoreError::Unavailable(_) => true,
        StoreError::OutcomeUnknown(_) => command.request.is_some(),
        // A constraint that spoke means that a rule of the code was broken or raced; what it guards
        // holds. Deciding once more, on what is there now, gives the caller the proper answer.
        StoreError::Unique(_) => true,
        StoreError::LockTimeout
        | StoreError::Deadline
        | StoreError::PoolExhausted
        | StoreError::Check(_)
        | StoreError::Unexpected(_) => false,
    }
}
