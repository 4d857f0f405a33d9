//! Receives the revocations of sessions from Redis, and confirms up to which moment all of them have arrived.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use redis::{Msg, Value, aio::PubSubStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    session_cache::SessionCache,
    store::{SessionStore, SessionStoreError},
};
use crate::{auth::session_token::SessionId, domain::backoff::full_jitter, telemetry::metrics::Metrics};

/// How often a ping confirms that every revocation has arrived. TRUST_WINDOW leaves room for a reply that takes
/// twice as long.
const PING_INTERVAL: Duration = Duration::from_millis(150);
/// The time for a ping's reply before the connection counts as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// The back-off before the next connection: a random time up to the first of these, which doubles up to the
/// second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The subscription of one server.
pub struct RevocationListener {
    store: Arc<SessionStore>,
    cache: Arc<Mutex<SessionCache>>,
    metrics: Arc<Metrics>,
}

impl RevocationListener {
    /// A listener that keeps `cache` valid.
    pub fn new(store: Arc<SessionStore>, cache: Arc<Mutex<SessionCache>>, metrics: Arc<Metrics>) -> Self {
        Self { store, cache, metrics }
    }

    /// Listens until `stop`, and reconnects after each failure.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let ended = stop.run_until_cancelled(self.listen(&mut failures)).await;
            self.cache.lock().unsubscribe();
            self.metrics.sessions_subscribed.set(0);
            let Some(Err(error)) = ended else { continue };
            // The connection for lookups is usually broken too; if not, the next call opens another one.
            self.store.disconnect().await;
            if failures == 0 {
                tracing::warn!(%error, "lost the connection to Redis; until it is back, each call looks its session up");
            } else {
                tracing::debug!(%error, failures, "still no connection to Redis");
            }
            let pause = full_jitter(failures, BACKOFF.0, BACKOFF.1, fastrand::f64());
            failures = failures.saturating_add(1);
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    /// Listens until the connection is lost.
    async fn listen(&self, failures: &mut u32) -> Result<(), SessionStoreError> {
        let (mut sink, mut stream) = self.store.subscribe().await?.split();
        self.cache.lock().subscribe();
        let mut ticks = interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_new = true;
        loop {
            let sent = Instant::now();
            let mut pong = pin!(timeout(PING_TIMEOUT, sink.ping::<Value>()));
            loop {
                tokio::select! {
                    message = stream.next() => self.receive(message)?,
                    reply = &mut pong => {
                        reply.map_err(|_| SessionStoreError::Timeout)??;
                        break;
                    }
                }
            }
            // Messages that arrived before the reply are in the stream by now.
            while let Some(message) = stream.next().now_or_never() {
                self.receive(message)?;
            }
            self.cache.lock().confirm_until(sent);
            if std::mem::take(&mut is_new) {
                self.connected(failures);
            }
            self.receive_until_tick(&mut stream, &mut ticks).await?;
        }
    }

    async fn receive_until_tick(
        &self,
        stream: &mut PubSubStream,
        ticks: &mut Interval,
    ) -> Result<(), SessionStoreError> {
        loop {
            tokio::select! {
                message = stream.next() => self.receive(message)?,
                _ = ticks.tick() => return Ok(()),
            }
        }
    }

    fn receive(&self, message: Option<Msg>) -> Result<(), SessionStoreError> {
        let message = message.ok_or_else(|| SessionStoreError::Unreachable("it closed the connection".to_owned()))?;
        let text = std::str::from_utf8(message.get_payload_bytes()).unwrap_or_default();
        for id in text.split_whitespace().filter_map(SessionId::parse) {
            self.cache.lock().revoke(id);
        }
        Ok(())
    }

    /// Reports that Redis is connected, and warns where it may evict sessions.
    fn connected(&self, failures: &mut u32) {
        self.metrics.sessions_subscribed.set(1);
        tracing::info!(failures, "connected to Redis for sessions");
        *failures = 0;
        // In a task of its own, so that the next ping does not wait for it.
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            if let Some(policy) = store.eviction_policy().await
                && policy != "noeviction"
            {
                tracing::warn!(
                    policy,
                    "Redis evicts keys when its memory is full, and with them the lists of a user's sessions, so that \
                     revoking them can miss some: set its maxmemory-policy to noeviction"
                );
            }
        });
    }
}
