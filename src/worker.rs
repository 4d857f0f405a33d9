//! Background work: each worker is one `run_once` in [`crate::ops`], and this dull loop around it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;

use crate::{
    config::Config,
    ops::{Ledger, OpError},
    rpc::server::set_serving,
    telemetry::metrics::Metrics,
};

/// How many old changes are deleted in one step, and how often it is looked for them.
const FORGET_BATCH: u32 = 1000;
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
/// How often the gauges are brought up to date.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the database is asked whether it is there.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a run that failed, if the usual one is shorter.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Starts every worker in `tasks`; they end with `stop`.
pub fn start(config: &Config, ledger: &Ledger, health: HealthReporter, tasks: &TaskTracker, stop: &CancellationToken) {
    let (holds, retention) = (config.holds, config.retention);
    let sweeper = ledger.clone();
    let looped = Loop { name: "sweep", limit: holds.sweep_batch, interval: holds.sweep_interval };
    tasks.spawn(looped.run(stop.clone(), ledger.metrics(), move || {
        let ledger = sweeper.clone();
        async move { ledger.expire_lapsed(holds.sweep_batch).await }
    }));

    let forgetter = ledger.clone();
    let looped = Loop { name: "forget", limit: FORGET_BATCH, interval: FORGET_INTERVAL };
    tasks.spawn(looped.run(stop.clone(), ledger.metrics(), move || {
        let ledger = forgetter.clone();
        async move { ledger.forget_changes(retention.changes, FORGET_BATCH).await }
    }));

    let gauges = ledger.clone();
    let looped = Loop { name: "gauges", limit: u32::MAX, interval: GAUGE_INTERVAL };
    tasks.spawn(looped.run(stop.clone(), ledger.metrics(), move || {
        let ledger = gauges.clone();
        async move { ledger.refresh_gauges().await.map(|()| 0) }
    }));

    let feed = ledger.clone();
    let looped = Loop { name: "feed", limit: u32::MAX, interval: config.watch.poll_interval };
    tasks.spawn(looped.run(stop.clone(), ledger.metrics(), move || {
        let ledger = feed.clone();
        async move { ledger.poll_feed().await.map(|()| 0) }
    }));

    tasks.spawn(watch_database(ledger.clone(), health, stop.clone()));
}

/// One worker: what it is called, how much it does at once, how long it pauses when there is less.
struct Loop {
    name: &'static str,
    limit: u32,
    interval: Duration,
}

impl Loop {
    async fn run<F>(self, stop: CancellationToken, metrics: Arc<Metrics>, run_once: impl Fn() -> F)
    where
        F: Future<Output = Result<u32, OpError>>,
    {
        while !stop.is_cancelled() {
            let pause = match run_once().await {
                Ok(count) if count >= self.limit => continue,
                Ok(_) => self.interval,
                Err(error) => {
                    metrics.worker_failures.with_label_values(&[self.name]).inc();
                    tracing::warn!(worker = self.name, %error, "a background run failed; it will be repeated");
                    self.interval.max(FAILURE_PAUSE)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// Tells health checks whether the database answers.
async fn watch_database(ledger: Ledger, health: HealthReporter, stop: CancellationToken) {
    let mut serves = true;
    while !stop.is_cancelled() {
        let answers = ledger.ping().await.is_ok();
        if answers != serves && !stop.is_cancelled() {
            tracing::warn!(answers, "the database changed its state");
            set_serving(&health, answers).await;
            serves = answers;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(HEALTH_INTERVAL) => {}
        }
    }
}
