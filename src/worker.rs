//! Background workers: each runs one use case of [`crate::ops`] again and again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;

use crate::{
    config::{Config, Expiry, Retention},
    ops::{Ledger, OpError, expiry::Left, retention::Cursor},
    rpc::health::set_serving,
};

/// Retention: the pause between two steps of a round, the pause between two rounds, and how many rows one step deletes.
const RETENTION_PAUSE: Duration = Duration::from_millis(10);
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
const RETENTION_BATCH: u32 = 1000;
/// The shortest pause between two runs of expiry: holds that lapse meanwhile are released together.
const EXPIRY_PAUSE: Duration = Duration::from_millis(50);
/// Events whose waitlists one run of promotion serves.
const PROMOTION_BATCH: u32 = 100;
/// How often the counters of the events that changed are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(60);
/// How often the gauges are refreshed.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the database is pinged.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a run that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Starts every worker in `tasks`; they end with `stop`.
pub fn start(config: &Config, ledger: &Ledger, health: HealthReporter, tasks: &TaskTracker, stop: &CancellationToken) {
    let (holds, retention, poll_interval) = (config.expiry, config.retention, config.watch.poll_interval);
    let promotion_interval = config.waitlist.promotion_interval;
    let has_outbox = config.broker.has_outbox();
    let cursor = Arc::new(Mutex::new(Cursor::default()));
    let workers = Workers { ledger, tasks, stop };
    workers.start("expiry", move |ledger| expire(ledger, holds));
    workers.start("change_retention", move |ledger| delete_changes(ledger, retention, has_outbox, Arc::clone(&cursor)));
    workers.start("reservation_retention", move |ledger| async move {
        ledger.prune_reservations(retention.ended_reservations, RETENTION_BATCH).await.map(pause_after)
    });
    workers.start("waitlist_retention", move |ledger| async move {
        ledger.prune_entries(retention.changes, RETENTION_BATCH).await.map(pause_after)
    });
    workers.start("counts_retention", move |ledger| async move {
        ledger.prune_event_counts(retention.counts, RETENTION_BATCH).await.map(pause_after)
    });
    workers.start("counts", move |ledger| async move { ledger.sample_event_counts().await.map(|()| SAMPLE_INTERVAL) });
    workers.start("promotion", move |ledger| promote(ledger, promotion_interval));
    workers.start("feed", move |ledger| async move { ledger.poll_feed().await.map(|()| poll_interval) });
    workers.start("gauges", move |ledger| async move {
        if has_outbox {
            ledger.refresh_backlog().await?;
        }
        ledger.refresh_gauges().await.map(|()| GAUGE_INTERVAL)
    });
    tasks.spawn(watch_database(ledger.clone(), health, stop.clone()));
}

/// Releases lapsed holds, and pauses until the next one lapses.
async fn expire(ledger: Ledger, expiry: Expiry) -> Result<Duration, OpError> {
    Ok(match ledger.expire_lapsed(expiry.batch).await? {
        Left::More => Duration::ZERO,
        // A hold that is made meanwhile may lapse earlier.
        Left::Nothing(next) => next.unwrap_or(Duration::MAX).max(EXPIRY_PAUSE).min(expiry.interval),
    })
}

/// One step of change retention, in a round over all events.
async fn delete_changes(
    ledger: Ledger,
    retention: Retention,
    has_outbox: bool,
    cursor: Arc<Mutex<Cursor>>,
) -> Result<Duration, OpError> {
    let mut cursor = cursor.lock().await;
    let next = ledger.prune_changes(retention.changes, cursor.clone(), has_outbox).await?;
    let pause = if next.is_some() { RETENTION_PAUSE } else { RETENTION_INTERVAL };
    *cursor = next.unwrap_or_default();
    Ok(pause)
}

/// The pause after a step of retention that deleted so many of the oldest rows of a table.
const fn pause_after(count: u32) -> Duration {
    if count < RETENTION_BATCH { RETENTION_INTERVAL } else { RETENTION_PAUSE }
}

/// Promotes waitlist entries for units that became free by the clock, without a transaction.
async fn promote(ledger: Ledger, interval: Duration) -> Result<Duration, OpError> {
    let count = ledger.promote_waiting(PROMOTION_BATCH).await?;
    Ok(if count < PROMOTION_BATCH { interval } else { Duration::ZERO })
}

/// What every worker needs.
struct Workers<'a> {
    ledger: &'a Ledger,
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
}

impl Workers<'_> {
    /// Starts a worker: `run_once` again and again until the stop, each run followed by the pause that it returns.
    fn start<F>(&self, name: &'static str, run_once: impl Fn(Ledger) -> F + Send + 'static)
    where
        F: Future<Output = Result<Duration, OpError>> + Send + 'static,
    {
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                let pause = run_once(ledger.clone()).await.unwrap_or_else(|error| {
                    ledger.metrics().worker_failures.with_label_values(&[name]).inc();
                    tracing::warn!(worker = name, %error, "a run failed; it will be repeated");
                    FAILURE_PAUSE
                });
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(pause) => {}
                }
            }
        });
    }
}

/// Keeps health checks at SERVING only while the database answers. That no connection comes free says nothing of it.
async fn watch_database(ledger: Ledger, health: HealthReporter, stop: CancellationToken) {
    let mut serving = true;
    while !stop.is_cancelled() {
        let answers = ledger.ping().await.unwrap_or(serving);
        if answers != serving && !stop.is_cancelled() {
            tracing::warn!(answers, "the database went away or came back");
            set_serving(&health, answers).await;
            serving = answers;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(HEALTH_INTERVAL) => {}
        }
    }
}
