//! Background work: each worker is one `run_once` in [`crate::ops`], and this dull loop around it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;

use crate::{
    config::{Config, Expiry, Retention},
    ops::{Ledger, OpError, expiry::Left, retention::Cursor},
    rpc::server::set_serving,
};

/// The pause between two steps of deleting what is old, between two rounds of them, and how many ended
/// reservations one step deletes.
const FORGET_PAUSE: Duration = Duration::from_millis(10);
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
const FORGET_BATCH: u32 = 1000;
/// The shortest pause between two sweeps: what lapses meanwhile is released together.
const SWEEP_PAUSE: Duration = Duration::from_millis(50);
/// Of how many events those who wait are served in one step.
const SERVE_BATCH: u32 = 100;
/// How often the gauges are brought up to date.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the database is asked whether it is there.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a run that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Starts every worker in `tasks`; they end with `stop`.
pub fn start(config: &Config, ledger: &Ledger, health: HealthReporter, tasks: &TaskTracker, stop: &CancellationToken) {
    let (expiry, retention, poll_interval) = (config.expiry, config.retention, config.watch.poll_interval);
    let promotion_interval = config.waitlist.promotion_interval;
    let has_outbox = config.broker.has_outbox();
    let place = Arc::new(Mutex::new(Cursor::default()));
    let workers = Workers { ledger, tasks, stop };
    workers.start("sweep", move |ledger| sweep(ledger, expiry));
    workers.start("forget_changes", move |ledger| forget_changes(ledger, retention, has_outbox, Arc::clone(&place)));
    workers.start("forget_reservations", move |ledger| forget_reservations(ledger, retention));
    workers.start("forget_entries", move |ledger| forget_entries(ledger, retention));
    workers.start("serve_waiting", move |ledger| serve_waiting(ledger, promotion_interval));
    workers.start("feed", move |ledger| async move { ledger.poll_feed().await.map(|()| poll_interval) });
    workers.start("gauges", move |ledger| async move {
        if has_outbox {
            ledger.refresh_backlog().await?;
        }
        ledger.refresh_gauges().await.map(|()| GAUGE_INTERVAL)
    });
    tasks.spawn(watch_database(ledger.clone(), health, stop.clone()));
}

/// Releases what has lapsed, and sleeps until the next hold does.
async fn sweep(ledger: Ledger, expiry: Expiry) -> Result<Duration, OpError> {
    Ok(match ledger.expire_lapsed(expiry.batch).await? {
        Left::More => Duration::ZERO,
        // A hold that is made meanwhile may lapse earlier.
        Left::Nothing(next) => next.unwrap_or(Duration::MAX).max(SWEEP_PAUSE).min(expiry.interval),
    })
}

/// One step of a round over all events.
async fn forget_changes(
    ledger: Ledger,
    retention: Retention,
    has_outbox: bool,
    place: Arc<Mutex<Cursor>>,
) -> Result<Duration, OpError> {
    let mut place = place.lock().await;
    let next = ledger.prune_changes(retention.changes, place.clone(), has_outbox).await?;
    let pause = if next.is_some() { FORGET_PAUSE } else { FORGET_INTERVAL };
    *place = next.unwrap_or_default();
    Ok(pause)
}

async fn forget_reservations(ledger: Ledger, retention: Retention) -> Result<Duration, OpError> {
    let count = ledger.prune_reservations(retention.ended_reservations, FORGET_BATCH).await?;
    Ok(if count < FORGET_BATCH { FORGET_INTERVAL } else { FORGET_PAUSE })
}

async fn forget_entries(ledger: Ledger, retention: Retention) -> Result<Duration, OpError> {
    let count = ledger.prune_entries(retention.changes, FORGET_BATCH).await?;
    Ok(if count < FORGET_BATCH { FORGET_INTERVAL } else { FORGET_PAUSE })
}

/// Serves those who wait where places came free without a transaction: by the clock.
async fn serve_waiting(ledger: Ledger, interval: Duration) -> Result<Duration, OpError> {
    let count = ledger.promote_waiting(SERVE_BATCH).await?;
    Ok(if count < SERVE_BATCH { interval } else { Duration::ZERO })
}

/// What every worker needs.
struct Workers<'a> {
    ledger: &'a Ledger,
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
}

impl Workers<'_> {
    /// Starts a worker: what it does again and again, until it is to stop, and how long to pause after.
    fn start<F>(&self, name: &'static str, run_once: impl Fn(Ledger) -> F + Send + 'static)
    where
        F: Future<Output = Result<Duration, OpError>> + Send + 'static,
    {
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                let pause = run_once(ledger.clone()).await.unwrap_or_else(|error| {
                    ledger.metrics().worker_failures.with_label_values(&[name]).inc();
                    tracing::warn!(worker = name, %error, "a background run failed; it will be repeated");
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
