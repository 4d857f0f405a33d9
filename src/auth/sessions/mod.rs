//! Sessions: opaque tokens that can be revoked. Redis stores them; each server caches those that it has seen, so
//! that a call costs no round trip, and yet a revoked session is refused everywhere within a second.
//!
//! [`record`] is a session, signed by [`record_key`]; [`store`] the scripts in Redis; [`session_cache`] the sessions
//! that this server may accept without a lookup, and [`unknown_ids`] those that it refuses without one;
//! [`revocation_listener`] the subscription to revocations.
//!
//! # Why a revoked session is refused within a second
//!
//! Revoking deletes the session and publishes its id, in one step (`lua/revoke.lua`). Redis may lose messages with
//! a connection, so the absence of a message proves nothing. The reply to a ping on the same connection does:
//! Redis keeps the order, so when the reply arrives, every message that was published before the ping was sent has
//! arrived too. A cached session is valid only for [`session_cache::TRUST_WINDOW`] after the last ping with a reply
//! was sent; later, and as soon as the connection is lost, every call looks its session up in Redis. A session that
//! was cached before the subscription began is not valid, nor is the result of a lookup during which the session was
//! revoked. So a session that is accepted at a moment N was not revoked before N - TRUST_WINDOW, whatever was lost,
//! and no two clocks are compared. A message that does arrive, as nearly all do, takes a millisecond.
//!
//! Streams end in the same way: at once when the message arrives. While no ping confirms the subscription, each
//! session with an open stream is looked up every [`RECHECK_INTERVAL`]; where Redis does not reply within
//! [`RECHECK_TIMEOUT`] either, the stream ends with UNAVAILABLE instead of UNAUTHENTICATED, and its caller may resume
//! once Redis is back. TRUST_WINDOW + RECHECK_INTERVAL + RECHECK_TIMEOUT is less than a second.
//!
//! While Redis is unreachable, no session is accepted. Other tokens and certificates do not depend on it.

pub mod record;
pub mod record_key;
pub mod revocation_listener;
pub mod session_cache;
pub mod store;
pub mod unknown_ids;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    record::{NewSession, Session},
    revocation_listener::RevocationListener,
    session_cache::{Cached, LookupOutcome, LookupResult, LookupRole, SessionCache},
    store::{SessionScope, SessionStore, SessionStoreError},
};
use super::{
    access::Credentials,
    denial::Denial,
    session_token::{SessionId, SessionToken},
};
use crate::{config::Sessions as Settings, domain::ids::UserId, telemetry::metrics::Metrics};

/// How often sessions in use are rechecked.
pub const RECHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The time for Redis to reply to a recheck.
pub const RECHECK_TIMEOUT: Duration = Duration::from_millis(300);
/// Concurrent rechecks.
const RECHECK_CONCURRENCY: usize = 256;
/// Attempts of a lookup during which its session is revoked. A session that is found even then is answered with
/// SESSIONS_UNAVAILABLE.
const LOOKUP_ATTEMPTS: usize = 3;

/// The sessions.
pub struct Sessions {
    store: Arc<SessionStore>,
    cache: Arc<Mutex<SessionCache>>,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// A new session.
#[derive(Debug)]
pub struct OpenedSession {
    /// The secret for its bearer; it is stored nowhere.
    pub token: SessionToken,
    /// The session.
    pub session: Session,
    /// The sessions of the same user that it replaces.
    pub replaced: Vec<SessionId>,
}

/// Why a session is looked up.
#[derive(Clone, Copy)]
enum Purpose {
    /// For a call.
    Use,
    /// For an open stream.
    Recheck,
}

/// Ends a lookup, even if its task panics.
struct LookupGuard<'s>(&'s Sessions, SessionId);

impl Drop for LookupGuard<'_> {
    fn drop(&mut self) {
        self.0.cache.lock().close_lookup(self.1);
    }
}

impl Sessions {
    /// The sessions of the configured Redis; none where there is none. Does not connect yet.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Option<Arc<Self>>, SessionStoreError> {
        if !settings.is_configured() {
            return Ok(None);
        }
        let store = Arc::new(SessionStore::new(settings)?);
        let cache = Arc::new(Mutex::new(SessionCache::new(settings.refresh_interval, Instant::now())));
        Ok(Some(Arc::new(Self { store, cache, settings: settings.clone(), metrics })))
    }

    /// The credentials of a session token, or their absence, from the cache. None: look it up with
    /// [`Sessions::look_up`].
    pub fn check(self: &Arc<Self>, token: &str) -> Result<Option<Arc<Credentials>>, Denial> {
        let id = SessionId::of_token(token).map_err(Denial::Token)?;
        let cached = self.cache.lock().get(id, Instant::now());
        Ok(match cached {
            Cached::Good(credentials) => Some(credentials),
            Cached::RefreshDue(credentials) => {
                // The call does not wait for the refresh.
                let sessions = Arc::clone(self);
                tokio::spawn(async move { sessions.share_lookup(id, Purpose::Use).await });
                Some(credentials)
            }
            Cached::Unknown => return Err(Denial::SessionEnded),
            Cached::Miss => None,
        })
    }

    /// The credentials of a session token, from Redis.
    pub async fn look_up(self: &Arc<Self>, token: &str) -> LookupResult {
        let id = SessionId::of_token(token).map_err(Denial::Token)?;
        self.share_lookup(id, Purpose::Use).await
    }

    /// Looks a session up, or waits for a lookup in flight. The lookup is a task of its own, since its first
    /// caller may hang up while others wait.
    async fn share_lookup(self: &Arc<Self>, id: SessionId, purpose: Purpose) -> LookupResult {
        let role = self.cache.lock().join_lookup(id);
        let mut result = match role {
            LookupRole::Follower(result) => result,
            LookupRole::Rejected => return Err(Denial::SessionsUnavailable),
            LookupRole::Leader(sender, result) => {
                let sessions = Arc::clone(self);
                tokio::spawn(async move {
                    let guard = LookupGuard(&sessions, id);
                    let found = sessions.look_up_in_redis(id, purpose).await;
                    // Before the result is sent: a later caller starts a new lookup.
                    drop(guard);
                    sender.send_replace(Some(found));
                });
                result
            }
        };
        let found = result.wait_for(Option::is_some).await;
        found.ok().and_then(|found| (*found).clone()).unwrap_or(Err(Denial::SessionsUnavailable))
    }

    async fn look_up_in_redis(&self, id: SessionId, purpose: Purpose) -> LookupResult {
        for _ in 0..LOOKUP_ATTEMPTS {
            let start = self.cache.lock().start_lookup(id, Instant::now());
            let found = match purpose {
                Purpose::Use => self.store.use_session(id).await,
                Purpose::Recheck => self.store.get(id).await,
            };
            let outcome = match &found {
                Ok(Some(_)) => "good",
                Ok(None) => "ended",
                Err(_) => "unavailable",
            };
            self.metrics.session_lookups.with_label_values(&[outcome]).inc();
            let found = found.map_err(|error| {
                tracing::debug!(%error, "the lookup of a session failed");
                Denial::SessionsUnavailable
            })?;
            match self.cache.lock().complete_lookup(id, start, found.as_ref()) {
                LookupOutcome::Good(credentials) => return Ok(credentials),
                LookupOutcome::Ended => return Err(Denial::SessionEnded),
                LookupOutcome::Retry => {}
            }
        }
        Err(Denial::SessionsUnavailable)
    }

    /// Receives revocations and rechecks the sessions in use, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (store, cache, metrics) = (Arc::clone(&self.store), Arc::clone(&self.cache), Arc::clone(&self.metrics));
        if store.is_exposed() {
            tracing::warn!(
                "sessions.url is redis:// without TLS to another machine: others on the network can read and change \
                 sessions; use rediss://"
            );
        }
        let listener = RevocationListener::new(store, cache, metrics);
        tokio::join!(listener.run(&stop), self.recheck_until(&stop));
    }

    async fn recheck_until(self: &Arc<Self>, stop: &CancellationToken) {
        let mut ticks = interval(RECHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let due = self.cache.lock().due_for_recheck(Instant::now());
            self.recheck(due).await;
        }
    }

    /// Looks sessions in use up, all within one RECHECK_TIMEOUT.
    async fn recheck(self: &Arc<Self>, due: Vec<SessionId>) {
        let mut unanswered: HashSet<_> = due.iter().copied().collect();
        let lookups = due.into_iter().map(|id| async move { (id, self.share_lookup(id, Purpose::Recheck).await) });
        let mut results = stream::iter(lookups).buffer_unordered(RECHECK_CONCURRENCY);
        let deadline = Instant::now() + RECHECK_TIMEOUT;
        while let Ok(Some((id, result))) = timeout_at(deadline, results.next()).await {
            if !matches!(result, Err(Denial::SessionsUnavailable)) {
                unanswered.remove(&id);
            }
        }
        for id in unanswered {
            self.cache.lock().recheck_failed(id, Instant::now());
        }
    }

    /// The defaults and limits of a new session.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens a session.
    pub async fn open(&self, new: &NewSession) -> Result<OpenedSession, SessionStoreError> {
        let token = SessionToken::new().ok_or(SessionStoreError::NoRandomness)?;
        let (session, replaced) = self.store.open(token.id(), new).await?;
        let session = session.ok_or(SessionStoreError::Unreadable)?;
        self.count_revoked("limit", replaced.len());
        Ok(OpenedSession { token, session, replaced })
    }

    /// A session within the scope.
    pub async fn get(&self, id: SessionId, scope: &SessionScope) -> Result<Option<Session>, SessionStoreError> {
        Ok(self.store.get(id).await?.filter(|session| scope.contains(session)))
    }

    /// The sessions of a user within the scope, the oldest first.
    pub async fn list(&self, user_id: &UserId, scope: &SessionScope) -> Result<Vec<Session>, SessionStoreError> {
        let mut sessions = self.store.list(user_id).await?;
        sessions.retain(|session| scope.contains(session));
        sessions.sort_by_key(|session| (session.created, session.id));
        Ok(sessions)
    }

    /// Revokes a session within the scope; returns whether there was one. This server refuses it from now on, the
    /// others within a second.
    pub async fn revoke(&self, id: SessionId, scope: &SessionScope) -> Result<bool, SessionStoreError> {
        let was_revoked = self.store.revoke(id, scope).await?;
        if was_revoked {
            self.cache.lock().revoke(id);
            self.count_revoked("call", 1);
        }
        Ok(was_revoked)
    }

    /// Revokes the sessions of a user within the scope; returns how many. `cause` is a label of the metric.
    pub async fn revoke_user(
        &self,
        user_id: &UserId,
        scope: &SessionScope,
        cause: &str,
    ) -> Result<u32, SessionStoreError> {
        let revoked = self.store.revoke_user(user_id, scope).await?;
        self.count_revoked(cause, revoked as usize);
        Ok(revoked)
    }

    /// Revokes all sessions that a principal created; returns how many.
    pub async fn revoke_created_by(&self, created_by: &str) -> Result<u32, SessionStoreError> {
        let revoked = self.store.revoke_created_by(created_by).await?;
        self.count_revoked("call", revoked as usize);
        Ok(revoked)
    }

    fn count_revoked(&self, cause: &str, count: usize) {
        self.metrics.sessions_revoked.with_label_values(&[cause]).inc_by(count as u64);
    }
}
