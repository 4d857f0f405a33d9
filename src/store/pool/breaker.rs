//! The circuit breaker of new connections. It opens when one fails: PostgreSQL is away. Then one caller at a time probes,
//! with back-off, while the others wait; the first success closes it and lets all in.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::domain::backoff::full_jitter;

/// How long a caller waits for a database that is away, unless its deadline is earlier.
pub(super) const AWAY_LIMIT: Duration = Duration::from_secs(1);
/// The back-off between two probes.
const BACKOFF_BASE: Duration = Duration::from_millis(10);
const BACKOFF_CAP: Duration = Duration::from_millis(250);

/// The breaker: open during an outage.
#[derive(Default)]
pub(super) struct Breaker {
    outage: Mutex<Option<Outage>>,
    /// Held by the caller that probes.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    failed_probes: u32,
    next_probe: Instant,
}

impl Breaker {
    /// Connects by `connect`, in its turn, until that succeeds: the caller limits the time.
    pub(super) async fn run<T, F>(&self, connect: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        loop {
            let turn = if self.is_open() { Some(self.turn.lock().await) } else { None };
            if turn.is_some() {
                // The probe before may have succeeded.
                let Some(outage) = *self.outage.lock() else { continue };
                sleep_until(outage.next_probe).await;
            }
            match connect().await {
                Ok(made) => {
                    self.close();
                    return made;
                }
                Err(error) => self.open(&error, turn.is_some()),
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.outage.lock().is_some()
    }

    /// Until when a caller that asked at that time waits for the database, as things are.
    pub(super) fn patience(&self, asked: Instant) -> Instant {
        let since = self.outage.lock().map_or_else(Instant::now, |outage| outage.since);
        asked.max(since) + AWAY_LIMIT
    }

    /// Notes that a connection failed, in a probe or before there was need for one.
    pub(super) fn open(&self, error: &sqlx::Error, is_probe: bool) {
        let (now, mut outage) = (Instant::now(), self.outage.lock());
        let (since, failed_probes) = match *outage {
            Some(known) if is_probe => (known.since, known.failed_probes + 1),
            Some(_) => return,
            None => (now, 0),
        };
        if outage.is_none() {
            tracing::warn!(%error, "PostgreSQL is away: one connection at a time is tried until it is back");
        }
        let next_probe = now + full_jitter(failed_probes, BACKOFF_BASE, BACKOFF_CAP, fastrand::f64());
        *outage = Some(Outage { since, failed_probes, next_probe });
    }

    fn close(&self) {
        if let Some(outage) = self.outage.lock().take() {
            let after = humantime::format_duration(outage.since.elapsed());
            tracing::info!(%after, "PostgreSQL is back");
        }
    }
}
