//! Runs commands until each has its reply: repeats an attempt that PostgreSQL undid, settles unknown outcomes, and cuts a
//! batch in two where one command may be at fault. Executors, the queue and the workers share it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Env, MAX_REPEATS,
    attempt::{Attempted, Mode, attempt, latest},
    database::Database,
    unit::{Diversion, Job, Outcome, Reply, where_unsure},
    working_set::Draft,
};
use crate::{
    config::Strategy,
    ops::{OpError, stats::ExecStats},
    store::{StoreError, write::Written},
    telemetry::chain,
};

/// How much longer than its deadline an execution may run: PostgreSQL's own time-out then comes first, and the
/// connection is saved.
const GRACE: Duration = Duration::from_millis(250);

/// Commands that are executed together.
pub(super) struct Batch<T> {
    pub(super) jobs: Vec<T>,
    /// What was decided already.
    pub(super) draft: Option<Draft>,
    /// When its turn came.
    pub(super) began: Instant,
}

/// What became of a batch.
pub(super) struct BatchResult<T> {
    /// The commands, where all went as it was decided before: they have no reply yet.
    pub(super) as_planned: Option<Executed<T>>,
    /// What was written of what was decided before. None: it is not known, or something else was written.
    pub(super) written: Option<Written>,
    /// The commands that have to be executed in another way, or again.
    pub(super) diverted: Vec<(T, Diversion)>,
}

/// Commands that were executed.
pub(super) struct Executed<T> {
    jobs: Vec<T>,
    outcomes: Vec<Outcome>,
    stats: ExecStats,
    began: Instant,
}

/// Takes the reply to a command, with when its turn came.
pub(super) trait Replies<T>: Send {
    /// Takes it.
    fn reply(&mut self, job: T, reply: Reply, stats: ExecStats, began: Instant);
}

impl<T> BatchResult<T> {
    /// Of a batch that is lost with its replies.
    pub(super) fn lost() -> Self {
        Self { as_planned: None, written: None, diverted: Vec::new() }
    }
}

/// Executes a batch, and replies to each command, except where all went as planned: then the next batch comes first.
///
/// A batch that fails for a reason that may lie in one of its commands is cut in two, and so on until the culprit is
/// alone: its neighbours never notice.
pub(super) async fn run<D: Database, T: Job + Sync>(
    env: &Env<D>,
    batch: Batch<T>,
    mode: &Mode,
    strategy: Strategy,
    replies: &mut dyn Replies<T>,
) -> BatchResult<T> {
    let mut run = Run { env, mode, strategy, began: batch.began, replies, result: BatchResult::lost() };
    let mut parts = VecDeque::from([(batch.jobs, batch.draft)]);
    let mut is_first = true;
    while let Some((mut jobs, draft)) = parts.pop_front() {
        run.divert_behind(&mut jobs);
        if jobs.is_empty() {
            continue;
        }
        let mut stats = ExecStats::begun(strategy);
        match run.until_done(&mut jobs, draft, &mut stats).await {
            Ok(Some(attempted)) => {
                let was_planned = is_first && stats.attempts == 1;
                let again = run.settle(jobs, attempted, stats, was_planned);
                if run.result.as_planned.is_some() {
                    return run.result;
                }
                if !again.is_empty() {
                    parts.push_front((again, None));
                }
            }
            Ok(None) => {}
            Err(error) if jobs.len() > 1 && may_be_one_commands_fault(&error) => {
                tracing::warn!(size = jobs.len(), %error, "a batch failed and is cut in two");
                env.metrics.batch_splits.inc();
                let second = jobs.split_off(jobs.len() / 2);
                for jobs in [second, jobs] {
                    parts.push_front((jobs, None));
                }
            }
            Err(error) => run.fail_all(jobs, error, stats),
        }
        is_first = false;
    }
    run.result
}

/// A batch while it runs.
struct Run<'a, D, T> {
    env: &'a Env<D>,
    mode: &'a Mode,
    strategy: Strategy,
    began: Instant,
    replies: &'a mut dyn Replies<T>,
    result: BatchResult<T>,
}

impl<D: Database, T: Job + Sync> Run<'_, D, T> {
    /// What was diverted must not be overtaken by what came after it.
    fn divert_behind(&mut self, jobs: &mut Vec<T>) {
        let diverted = &mut self.result.diverted;
        let is_behind = |job: &mut T| diverted.iter().any(|(it, _)| it.command().event_id == job.command().event_id);
        let behind: Vec<_> = jobs.extract_if(.., is_behind).collect();
        diverted.extend(behind.into_iter().map(|job| (job, Diversion::Behind)));
    }

    /// Replies to what is done, and returns what is to be executed again on a read: what speculation mispredicted.
    fn settle(&mut self, jobs: Vec<T>, attempted: Attempted, stats: ExecStats, was_planned: bool) -> Vec<T> {
        let Attempted { outcomes, lock_wait, written, is_speculative } = attempted;
        if self.strategy == Strategy::Coalesced {
            self.env.metrics.batch_sizes.observe(jobs.len() as f64);
        }
        let batch_size = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        let stats = ExecStats { lock_wait: stats.lock_wait + lock_wait, batch_size, ..stats };
        let mut executed = Executed { jobs, outcomes, stats, began: self.began };
        let diverted = executed.take_diverted();
        if was_planned {
            self.result.written = Some(written);
            if diverted.is_empty() {
                self.result.as_planned = Some(executed);
                return Vec::new();
            }
        }
        executed.reply(self.replies);
        if is_speculative {
            self.env.metrics.batch_mispredicted.inc_by(diverted.len() as u64);
            return diverted.into_iter().map(|(job, _)| job).collect();
        }
        self.result.diverted.extend(diverted);
        Vec::new()
    }

    /// Repeats an attempt until it is done, or fails for good. Where the outcome of a commit is unknown, the commands
    /// without a request_id get that as their reply, and only the others are repeated. None: none is left.
    async fn until_done(
        &mut self,
        jobs: &mut Vec<T>,
        mut draft: Option<Draft>,
        stats: &mut ExecStats,
    ) -> Result<Option<Attempted>, StoreError> {
        let mut repeats = 0;
        loop {
            stats.attempts += 1;
            let (latest, asked) = (latest(jobs), Instant::now());
            let result = timeout_at(latest + GRACE, attempt(self.env, jobs, self.mode, draft.take())).await;
            let error = match result.unwrap_or(Err(StoreError::Deadline)) {
                Ok(Some(attempted)) => return Ok(Some(attempted)),
                // The clock has passed a moment on which a decision rested, or the draft is outdated: decide again.
                Ok(None) if repeats < MAX_REPEATS => {
                    repeats += 1;
                    continue;
                }
                Ok(None) => return Err(StoreError::Deadline),
                // What lasted until the deadline was ended by the deadline.
                Err(StoreError::LockTimeout | StoreError::Canceled(_)) if Instant::now() >= latest => {
                    StoreError::Deadline
                }
                Err(error) => error,
            };
            if matches!(error, StoreError::LockTimeout) {
                stats.lock_wait += asked.elapsed();
            }
            self.env.database.note(&error);
            if matches!(error, StoreError::Away) && Instant::now() < latest {
                // An unknown outcome is settled when the database is back.
                self.fail_all(jobs.extract_if(.., |job| !job.is_unsure()).collect(), error, *stats);
                if jobs.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            if !is_repeatable(&error, jobs.len()) || repeats >= MAX_REPEATS {
                return Err(error);
            }
            if matches!(error, StoreError::OutcomeUnknown(_)) {
                let unsure: Vec<_> = jobs.extract_if(.., |job| job.command().request.is_none()).collect();
                self.fail_all(unsure, error.alike(), *stats);
                if jobs.is_empty() {
                    return Ok(None);
                }
                jobs.iter_mut().for_each(Job::make_unsure);
            }
            repeats += 1;
            self.env.back_off(repeats - 1, latest).await.map_err(|_| StoreError::Deadline)?;
        }
    }

    /// Gives the same error to all; the first gets the original. An outage is logged once for a whole batch.
    fn fail_all(&mut self, jobs: Vec<T>, error: StoreError, stats: ExecStats) {
        let is_batch = self.strategy == Strategy::Coalesced;
        let is_outage = error.undid_the_work() || matches!(error, StoreError::OutcomeUnknown(_));
        if is_outage && is_batch && !jobs.is_empty() {
            tracing::warn!(callers = jobs.len(), error = chain(&error), "the database is unavailable");
        }
        let copies: Vec<StoreError> = jobs.iter().skip(1).map(|_| error.alike()).collect();
        for (job, error) in jobs.into_iter().zip(std::iter::once(error).chain(copies)) {
            let error = where_unsure(OpError::from(error), &job);
            self.replies.reply(job, Err(if is_batch { error.logged() } else { error }), stats, self.began);
        }
    }
}

/// Whether an attempt of so many commands can be repeated. Where it is unknown whether it was committed, only commands
/// with a request_id are.
fn is_repeatable(error: &StoreError, commands: usize) -> bool {
    match error {
        StoreError::OutcomeUnknown(_) => true,
        // A constraint that fails means that a rule of the code is broken or raced; what it guards holds. Alone, the
        // command is decided once more, on what is there now, and its caller gets the proper answer.
        StoreError::Unique(_) => commands == 1,
        other => other.undid_the_work(),
    }
}

fn may_be_one_commands_fault(error: &StoreError) -> bool {
    matches!(error, StoreError::Unique(_) | StoreError::Check(_) | StoreError::Unexpected(_))
}

impl<T> Executed<T> {
    fn take_diverted(&mut self) -> Vec<(T, Diversion)> {
        if !self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Diverted(_))) {
            return Vec::new();
        }
        let (jobs, outcomes) = (std::mem::take(&mut self.jobs), std::mem::take(&mut self.outcomes));
        let mut diverted = Vec::new();
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            if let Outcome::Diverted(why) = outcome {
                diverted.push((job, why));
            } else {
                self.jobs.push(job);
                self.outcomes.push(outcome);
            }
        }
        diverted
    }

    /// Replies to each command.
    pub(super) fn reply(self, replies: &mut dyn Replies<T>) {
        for (job, outcome) in self.jobs.into_iter().zip(self.outcomes) {
            // What was diverted was taken out.
            if let Some(reply) = outcome.into_reply() {
                replies.reply(job, reply, self.stats, self.began);
            }
        }
    }
}
