//! The sessions that this server may accept without a lookup in Redis, and for how long. Pure: the time is an
//! argument.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{record::Session, unknown_ids::UnknownIds};
use crate::auth::{access::Credentials, denial::Denial, session_token::SessionId};

/// How long the cache stays valid after the last moment up to which every revocation is known to have arrived.
pub const TRUST_WINDOW: Duration = Duration::from_millis(500);
/// Cached sessions, except those in use.
const MAX_CACHED: usize = 32 * 1024;
/// Concurrent lookups.
const MAX_LOOKUPS: usize = 4096;

/// The result of a lookup: the session's credentials, or why there are none.
pub type LookupResult = Result<Arc<Credentials>, Denial>;

/// The session cache of one server.
pub struct SessionCache {
    sessions: HashMap<SessionId, CachedSession>,
    unknown: UnknownIds,
    lookups: HashMap<SessionId, PendingLookup>,
    /// Numbers the subscriptions: a session cached before the current one may have been revoked unnoticed.
    subscription: u64,
    is_subscribed: bool,
    /// Until when sessions cached during this subscription are valid.
    trusted_until: Instant,
    /// How often a session in use is looked up.
    refresh_interval: Duration,
}

#[derive(Clone)]
struct CachedSession {
    credentials: Arc<Credentials>,
    /// The earliest time at which it expires.
    expires: Instant,
    /// When the next call is recorded in Redis as a use.
    next_refresh: Instant,
    /// When it is looked up again without any other reason.
    next_recheck: Instant,
    /// The subscription during which it was cached; 0: none.
    subscription: u64,
    /// Until when it is valid even without a subscription.
    trusted_until: Instant,
    is_used: bool,
}

struct PendingLookup {
    result: watch::Receiver<Option<LookupResult>>,
    /// Revoked after the lookup began: the result may be older than the revocation.
    is_stale: bool,
}

/// The moment at which a lookup in Redis begins.
#[derive(Clone, Copy, Debug)]
pub struct LookupStart {
    time: Instant,
    subscription: u64,
}

/// What the cache has for a call.
pub enum Cached {
    /// The session is good.
    Good(Arc<Credentials>),
    /// The session is good, and due for a refresh.
    RefreshDue(Arc<Credentials>),
    /// Redis did not know the session a moment ago.
    Unknown,
    /// The session must be looked up.
    Miss,
}

/// What a lookup in Redis has shown.
pub enum LookupOutcome {
    /// The session is good.
    Good(Arc<Credentials>),
    /// There is no such session.
    Ended,
    /// It was revoked during the lookup, whose result may be older: look it up again.
    Retry,
}

/// A caller's part in a lookup: concurrent callers of one session share one lookup.
pub enum LookupRole {
    /// The caller looks the session up and sends the result to the others.
    Leader(watch::Sender<Option<LookupResult>>, watch::Receiver<Option<LookupResult>>),
    /// Another caller already does.
    Follower(watch::Receiver<Option<LookupResult>>),
    /// Too many lookups are in flight.
    Rejected,
}

impl SessionCache {
    /// An empty cache. Sessions in use are looked up every `refresh_interval`.
    pub fn new(refresh_interval: Duration, now: Instant) -> Self {
        let ((sessions, lookups), unknown) = (Default::default(), UnknownIds::new(now));
        let (subscription, is_subscribed, trusted_until) = (0, false, now);
        Self { sessions, unknown, lookups, subscription, is_subscribed, trusted_until, refresh_interval }
    }

    /// From now on every revocation arrives. Sessions cached earlier are invalid, since some of them may have
    /// been revoked in between.
    pub fn subscribe(&mut self) {
        self.subscription += 1;
        self.is_subscribed = true;
    }

    /// Revocations no longer arrive: the cache serves no further call.
    pub fn unsubscribe(&mut self) {
        self.is_subscribed = false;
        // A session in use keeps the trust that it has.
        let (trusted_until, subscription) = (self.trusted_until, self.subscription);
        for session in self.sessions.values_mut().filter(|session| session.subscription == subscription) {
            session.trusted_until = session.trusted_until.max(trusted_until);
            session.subscription = 0;
        }
    }

    /// Every revocation before `when` has arrived.
    pub fn confirm_until(&mut self, when: Instant) {
        self.trusted_until = when + TRUST_WINDOW;
    }

    fn covers(&self, session: &CachedSession, now: Instant) -> bool {
        session.subscription == self.subscription && self.is_subscribed && now < self.trusted_until
    }

    /// What the cache has for a call with this session.
    pub fn get(&mut self, id: SessionId, now: Instant) -> Cached {
        let is_valid = self.sessions.get(&id).is_some_and(|it| now < it.expires && self.covers(it, now));
        let Some(session) = self.sessions.get_mut(&id).filter(|_| is_valid) else {
            return if self.unknown.contains(id, now) { Cached::Unknown } else { Cached::Miss };
        };
        session.is_used = true;
        let credentials = Arc::clone(&session.credentials);
        if now < session.next_refresh {
            return Cached::Good(credentials);
        }
        // One call refreshes the session, and thereby sets the next time.
        session.next_refresh = session.expires;
        Cached::RefreshDue(credentials)
    }

    /// Joins the lookup of a session, or begins one.
    pub fn join_lookup(&mut self, id: SessionId) -> LookupRole {
        if let Some(lookup) = self.lookups.get(&id) {
            return LookupRole::Follower(lookup.result.clone());
        }
        if self.lookups.len() >= MAX_LOOKUPS {
            return LookupRole::Rejected;
        }
        let (sender, result) = watch::channel(None);
        self.lookups.insert(id, PendingLookup { result: result.clone(), is_stale: false });
        LookupRole::Leader(sender, result)
    }

    /// Must be called before Redis is asked.
    pub fn start_lookup(&mut self, id: SessionId, now: Instant) -> LookupStart {
        if let Some(lookup) = self.lookups.get_mut(&id) {
            lookup.is_stale = false;
        }
        LookupStart { time: now, subscription: if self.is_subscribed { self.subscription } else { 0 } }
    }

    /// Caches what Redis returned. The lookup must be pending, so that it notices a concurrent revocation.
    pub fn complete_lookup(&mut self, id: SessionId, start: LookupStart, found: Option<&Session>) -> LookupOutcome {
        if self.lookups.get(&id).is_some_and(|lookup| lookup.is_stale) {
            return LookupOutcome::Retry;
        }
        let LookupStart { time, subscription } = start;
        let Some(session) = found else {
            self.remove(id);
            self.unknown.insert(id, time);
            return LookupOutcome::Ended;
        };
        self.unknown.remove(id);
        // Redis measures the remaining time after the lookup starts, so the session expires no earlier than this.
        let (expires, trusted_until) = (time + session.left, time + TRUST_WINDOW);
        let interval = self.refresh_interval.min(session.lifetime / 4);
        let (next_refresh, next_recheck) = (time + interval.saturating_sub(session.idle), time + self.refresh_interval);
        if let Some(known) = self.sessions.get_mut(&id) {
            let trusted_until = known.trusted_until.max(trusted_until);
            *known =
                CachedSession { expires, next_refresh, next_recheck, trusted_until, subscription, ..known.clone() };
            return LookupOutcome::Good(Arc::clone(&known.credentials));
        }
        let Some(principal) = session.principal() else { return LookupOutcome::Ended };
        let credentials =
            Credentials { session: Some(id), revoked: CancellationToken::new(), ..Credentials::of(principal) };
        let credentials = Arc::new(credentials);
        self.make_room();
        self.sessions.insert(
            id,
            CachedSession {
                credentials: Arc::clone(&credentials),
                expires,
                next_refresh,
                next_recheck,
                subscription,
                trusted_until,
                is_used: true,
            },
        );
        LookupOutcome::Good(credentials)
    }

    /// Ends a lookup.
    pub fn close_lookup(&mut self, id: SessionId) {
        self.lookups.remove(&id);
    }

    /// Drops a revoked session.
    pub fn revoke(&mut self, id: SessionId) {
        if let Some(lookup) = self.lookups.get_mut(&id) {
            lookup.is_stale = true;
        }
        self.remove(id);
    }

    fn remove(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            session.credentials.revoked.cancel();
        }
    }

    /// Drops expired sessions that are not in use. Returns the sessions in use that must be looked up: their
    /// streams go on only while the session is known to be good.
    pub fn due_for_recheck(&mut self, now: Instant) -> Vec<SessionId> {
        let mut due = Vec::new();
        let mut sessions = std::mem::take(&mut self.sessions);
        sessions.retain(|id, session| {
            let is_good = now < session.expires && self.covers(session, now);
            if is_in_use(session) && !(is_good && now < session.next_recheck) {
                due.push(*id);
            }
            is_good || is_in_use(session)
        });
        self.sessions = sessions;
        due
    }

    /// Redis did not reply for a session in use. Its streams end once the session is no longer trusted.
    pub fn recheck_failed(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        let is_good = now < session.expires && (self.covers(session, now) || now < session.trusted_until);
        if !is_good {
            session.credentials.unverifiable.cancel();
            self.sessions.remove(&id);
        }
    }

    fn make_room(&mut self) {
        if self.sessions.len() < MAX_CACHED {
            return;
        }
        // First the sessions without a call since the cache was last full.
        self.sessions.retain(|_, session| std::mem::take(&mut session.is_used) || is_in_use(session));
        if self.sessions.len() >= MAX_CACHED / 4 * 3 {
            self.sessions.retain(|_, session| is_in_use(session));
        }
    }
}

/// Whether a call or a stream holds its credentials.
fn is_in_use(session: &CachedSession) -> bool {
    Arc::strong_count(&session.credentials) > 1
}

#[cfg(test)]
mod tests;
