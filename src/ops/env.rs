//! What every use case needs: the database, the settings, the metrics and the feed.

use std::{future::Future, sync::Arc};

use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{
    OpError, clock::Clock, contention::Contention, event_counts::ChangedEvents, feed::Feed, permit, stats::ExecStats,
};
use crate::{
    config::{Execution, Strategy},
    domain::{backoff::full_jitter, command::Command},
    store::{Pool, StoreError},
    telemetry::metrics::Metrics,
};

/// How often an attempt is repeated that PostgreSQL or a broken connection undid, or that the clock overtook.
pub(super) const MAX_REPEATS: u32 = 4;

/// What the engine and its queue need; `D` is a [`Database`](super::execute::Database).
#[derive(Clone)]
pub(super) struct Env<D = Pool> {
    pub(super) database: D,
    pub(super) settings: Execution,
    pub(super) metrics: Arc<Metrics>,
    pub(super) contention: Arc<Contention>,
    pub(super) feed: Feed,
    pub(super) tasks: TaskTracker,
    pub(super) clock: Arc<Clock>,
    pub(super) changed: Arc<ChangedEvents>,
}

impl<D> Env<D> {
    /// Runs `work` to its end in a task of its own, even if the caller stops waiting.
    pub(super) async fn spawn_tracked<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, OpError>> + Send + 'static,
    ) -> Result<T, OpError> {
        let permit = permit::held();
        let work = async move {
            let _permit = permit;
            work.await
        };
        self.tasks.spawn(work.in_current_span()).await.unwrap_or_else(|failed| Err(OpError::Crashed(failed)))
    }

    /// Waits before the next attempt; fails if the deadline would pass meanwhile.
    pub(super) async fn back_off(&self, retry: u32, deadline: Instant) -> Result<(), OpError> {
        let wait = full_jitter(retry, self.settings.backoff_base, self.settings.backoff_cap, fastrand::f64());
        if Instant::now() + wait >= deadline {
            return Err(OpError::Deadline);
        }
        sleep(wait).await;
        Ok(())
    }

    /// Counts an execution and its outcome: a success, a replay or an error.
    pub(super) fn count(&self, command: &Command, stats: &ExecStats, result: Result<bool, &OpError>) {
        let (operation, strategy, metrics) = (command.operation(), stats.strategy.name(), &self.metrics);
        let outcome = match result {
            Ok(false) => "ok",
            Ok(true) => "replayed",
            Err(error) => error.reason(),
        };
        metrics.outcomes.with_label_values(&[operation, strategy, outcome]).inc();
        metrics.version_conflicts.with_label_values(&[operation]).inc_by(stats.conflicts.into());
        let retries = stats.attempts.saturating_sub(1);
        metrics.retries.with_label_values(&[operation, strategy]).inc_by(retries.into());
        if stats.strategy != Strategy::Optimistic {
            metrics.lock_wait_seconds.with_label_values(&[operation]).observe(stats.lock_wait.as_secs_f64());
        }
        self.contention.note(&command.event_id, stats);
        if matches!(result, Ok(false)) {
            self.feed.note(&command.event_id);
            self.changed.note(&command.event_id);
        }
    }
}

impl Env {
    /// Makes `attempt`, and repeats it if PostgreSQL or a broken connection undid it.
    pub(super) async fn repeat_if_undone<T, F>(
        &self,
        deadline: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut repeats = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            self.database.note(&error);
            if !error.undid_the_work() || repeats == MAX_REPEATS {
                return Err(error);
            }
            self.back_off(repeats, deadline).await.map_err(|_| StoreError::Deadline)?;
            repeats += 1;
        }
    }
}
