//! Hears which sessions are revoked, and knows until when it has heard of all of them.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use redis::{Msg, Value, aio::PubSubStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Sessions, store::Trouble, token::SessionId};
use crate::domain::backoff::full_jitter;

/// How often it makes sure that it has heard everything. TRUST leaves room for an answer that takes twice
/// as long.
const PING_INTERVAL: Duration = Duration::from_millis(150);
/// How long the answer to a ping may take before the connection is given up.
const PING_LIMIT: Duration = Duration::from_secs(1);
/// The pause before Redis is tried again: a random time up to the first of these, which doubles up to
/// the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Listens until `stop`, however often the connection is lost.
pub async fn listen(sessions: &Arc<Sessions>, stop: &CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let heard = stop.run_until_cancelled(hear(sessions, &mut failures)).await;
        sessions.known().unsubscribe();
        sessions.metrics.sessions_subscribed.set(0);
        let Some(Err(trouble)) = heard else { continue };
        // Its sister is broken as well, more often than not; or else the next call makes another.
        sessions.store.hang_up().await;
        if failures == 0 {
            tracing::warn!(error = %trouble, "the way to Redis is lost; each call of a session asks it until it is back");
        } else {
            tracing::debug!(error = %trouble, failures, "the way to Redis is still lost");
        }
        let pause = full_jitter(failures, PAUSES.0, PAUSES.1, fastrand::f64());
        failures = failures.saturating_add(1);
        stop.run_until_cancelled(sleep(pause)).await;
    }
}

/// Listens until the connection is lost.
async fn hear(sessions: &Arc<Sessions>, failures: &mut u32) -> Result<(), Trouble> {
    let (mut sink, mut stream) = sessions.store.listen().await?.split();
    sessions.known().subscribe();
    let mut turns = interval(PING_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_new = true;
    loop {
        let sent = Instant::now();
        let mut pong = pin!(timeout(PING_LIMIT, sink.ping::<Value>()));
        loop {
            tokio::select! {
                message = stream.next() => take(sessions, message)?,
                answer = &mut pong => {
                    answer.map_err(|_| Trouble::Silent)??;
                    break;
                }
            }
        }
        // What came before the answer lies in the stream by now.
        while let Some(message) = stream.next().now_or_never() {
            take(sessions, message)?;
        }
        sessions.known().heard_all_until(sent);
        if std::mem::take(&mut is_new) {
            welcome(sessions, failures);
        }
        wait(sessions, &mut stream, &mut turns).await?;
    }
}

/// Takes what comes until it is time for the next ping.
async fn wait(
    sessions: &Sessions,
    stream: &mut PubSubStream,
    turns: &mut tokio::time::Interval,
) -> Result<(), Trouble> {
    loop {
        tokio::select! {
            message = stream.next() => take(sessions, message)?,
            _ = turns.tick() => return Ok(()),
        }
    }
}

fn take(sessions: &Sessions, message: Option<Msg>) -> Result<(), Trouble> {
    let message = message.ok_or_else(|| Trouble::Away("it closed the connection".to_owned()))?;
    let text = std::str::from_utf8(message.get_payload_bytes()).unwrap_or_default();
    for id in text.split_whitespace().filter_map(SessionId::parse) {
        sessions.known().revoked(id);
    }
    Ok(())
}

/// Says that Redis is there, and whether it may drop what must not be dropped.
fn welcome(sessions: &Arc<Sessions>, failures: &mut u32) {
    sessions.metrics.sessions_subscribed.set(1);
    tracing::info!(failures, "sessions: Redis is there");
    *failures = 0;
    // Beside the listening: nothing waits for it.
    let sessions = Arc::clone(sessions);
    tokio::spawn(async move {
        if let Some(policy) = sessions.store.eviction_policy().await
            && policy != "noeviction"
        {
            tracing::warn!(
                policy,
                "Redis drops keys when its memory is full, and with them who has which sessions, so that revoking a \
                 user's would miss some: set its maxmemory-policy to noeviction"
            );
        }
    });
}
