//! A part of the service that needs the broker, restarted after each failure.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::BrokerError;
use crate::{domain::backoff::full_jitter, ops::Ledger};

/// The back-off before a restart: a random time up to the first of these, which doubles up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The shortest pause: a broker that refuses at once must not be contacted a thousand times a second.
const MIN_PAUSE: Duration = Duration::from_millis(50);

/// A part of the service that needs the broker.
pub(super) trait Part: Send + Sync + Sized {
    /// Works until `stop`, or fails. Calls `is_up` once it works.
    fn work(
        self: &Arc<Self>,
        stop: &CancellationToken,
        is_up: impl FnMut() + Send,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// Runs a part until `stop`, and restarts it after each failure with a growing pause.
pub(super) async fn run(name: &'static str, ledger: Ledger, stop: CancellationToken, part: impl Part) {
    let (part, mut failures) = (Arc::new(part), 0);
    while !stop.is_cancelled() {
        let Err(error) = part.work(&stop, || failures = 0).await else { continue };
        ledger.metrics().broker_failures.with_label_values(&[name]).inc();
        if failures == 0 {
            tracing::warn!(part = name, %error, "lost the broker or the outbox; retrying");
        } else {
            tracing::debug!(part = name, %error, failures, "the broker or the outbox is still lost");
        }
        let pause = full_jitter(failures, BACKOFF.0, BACKOFF.1, fastrand::f64()).max(MIN_PAUSE);
        failures = failures.saturating_add(1);
        stop.run_until_cancelled(sleep(pause)).await;
    }
}
