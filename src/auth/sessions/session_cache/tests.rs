//! When a cached session is valid: each rule, with a clock that the test advances.

use std::time::Duration;

use super::*;
use crate::{
    auth::{
        principal::{Role, Roles},
        session_token::SessionToken,
    },
    config::SessionKind,
    domain::{ids::UserId, time::Timestamp},
};

const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// The cache of a server, and a clock that the test advances.
struct Server {
    cache: SessionCache,
    now: Instant,
}

impl Server {
    /// A server that receives revocations.
    fn subscribed() -> Self {
        let now = Instant::now();
        let mut cache = SessionCache::new(REFRESH_INTERVAL, now);
        cache.subscribe();
        cache.confirm_until(now);
        Self { cache, now }
    }

    /// Advances the clock; the subscription stays confirmed.
    fn advance(&mut self, span: Duration) {
        self.now += span;
        self.cache.confirm_until(self.now);
    }

    /// Looks a session up; Redis returns it with this remaining time.
    fn look_up(&mut self, id: SessionId, left: Duration) -> Option<Arc<Credentials>> {
        let start = self.start_lookup(id);
        let outcome = self.cache.complete_lookup(id, start, Some(&session(id, left)));
        self.cache.close_lookup(id);
        match outcome {
            LookupOutcome::Good(credentials) => Some(credentials),
            LookupOutcome::Ended | LookupOutcome::Retry => None,
        }
    }

    fn start_lookup(&mut self, id: SessionId) -> LookupStart {
        let LookupRole::Leader(..) = self.cache.join_lookup(id) else { panic!("a lookup is in flight") };
        self.cache.start_lookup(id, self.now)
    }

    fn accepts(&mut self, id: SessionId) -> bool {
        !matches!(self.cache.get(id, self.now), Cached::Miss | Cached::Unknown)
    }
}

fn id() -> SessionId {
    SessionToken::new().expect("randomness").id()
}

fn session(id: SessionId, left: Duration) -> Session {
    let time = Timestamp::from_micros(0).expect("a time");
    Session {
        id,
        user_id: UserId::parse("ann").expect("an id"),
        roles: Roles::of(&[Role::User]),
        kind: SessionKind::Sliding,
        created_by: String::new(),
        description: String::new(),
        created: time,
        used: time,
        expires: time,
        ends: time,
        lifetime: Duration::from_secs(3600),
        left,
        idle: Duration::ZERO,
    }
}

#[test]
fn a_cached_session_is_valid_only_while_the_subscription_is_confirmed() {
    let (mut server, id) = (Server::subscribed(), id());
    server.look_up(id, Duration::from_secs(60));
    for _ in 0..50 {
        server.advance(TRUST_WINDOW - MS);
        assert!(server.accepts(id));
    }
    server.now += TRUST_WINDOW;
    assert!(!server.accepts(id), "the subscription is unconfirmed for too long");
    server.cache.confirm_until(server.now);
    assert!(server.accepts(id), "a late reply still proves that no message was missed");
}

#[test]
fn a_lost_connection_invalidates_the_cache_until_the_next_lookup() {
    let (mut server, id) = (Server::subscribed(), id());
    server.look_up(id, Duration::from_secs(60));
    server.cache.unsubscribe();
    assert!(!server.accepts(id));
    server.cache.subscribe();
    server.cache.confirm_until(server.now);
    assert!(!server.accepts(id), "it may have been revoked in between");
    server.look_up(id, Duration::from_secs(60));
    assert!(server.accepts(id));
}

#[test]
fn a_lookup_from_before_a_subscription_is_not_valid_in_it() {
    let (mut server, id) = (Server::subscribed(), id());
    server.cache.unsubscribe();
    let start = server.start_lookup(id);
    server.cache.subscribe();
    server.cache.confirm_until(server.now);
    server.cache.complete_lookup(id, start, Some(&session(id, REFRESH_INTERVAL)));
    server.cache.close_lookup(id);
    assert!(!server.accepts(id));
}

#[test]
fn a_lookup_that_overlaps_a_revocation_is_retried() {
    let (mut server, id) = (Server::subscribed(), id());
    let start = server.start_lookup(id);
    server.cache.revoke(id);
    assert!(matches!(
        server.cache.complete_lookup(id, start, Some(&session(id, REFRESH_INTERVAL))),
        LookupOutcome::Retry
    ));
    assert!(!server.accepts(id));
    let start = server.cache.start_lookup(id, server.now);
    assert!(matches!(server.cache.complete_lookup(id, start, None), LookupOutcome::Ended));
    assert!(!server.accepts(id));
}

#[test]
fn a_revocation_reaches_the_credentials_in_use() {
    let (mut server, one, other) = (Server::subscribed(), id(), id());
    let held = [one, other].map(|id| server.look_up(id, REFRESH_INTERVAL).expect("good"));
    server.cache.revoke(one);
    assert!(held[0].revoked.is_cancelled() && !server.accepts(one));
    assert!(!held[1].revoked.is_cancelled() && server.accepts(other));
}

#[test]
fn a_session_is_cached_no_longer_than_it_lasts() {
    let (mut server, id) = (Server::subscribed(), id());
    server.look_up(id, Duration::from_secs(1));
    server.advance(Duration::from_millis(999));
    assert!(server.accepts(id));
    server.advance(MS);
    assert!(!server.accepts(id));
}

#[test]
fn a_session_in_use_is_refreshed_once_an_interval() {
    let (mut server, id) = (Server::subscribed(), id());
    server.look_up(id, Duration::from_secs(3600));
    server.advance(REFRESH_INTERVAL - MS);
    assert!(matches!(server.cache.get(id, server.now), Cached::Good(_)));
    server.advance(MS);
    assert!(matches!(server.cache.get(id, server.now), Cached::RefreshDue(_)));
    assert!(matches!(server.cache.get(id, server.now), Cached::Good(_)), "the first call refreshes it");
}

#[test]
fn without_a_subscription_sessions_in_use_are_rechecked_and_idle_ones_dropped() {
    let (mut server, used, idle) = (Server::subscribed(), id(), id());
    let held = server.look_up(used, Duration::from_secs(60)).expect("good");
    server.look_up(idle, Duration::from_secs(60));
    assert!(server.cache.due_for_recheck(server.now).is_empty());
    assert!(server.accepts(idle), "the next call can use it");

    server.cache.unsubscribe();
    assert_eq!(server.cache.due_for_recheck(server.now), [used]);
    // A failed recheck ends nothing within the trust window.
    server.cache.recheck_failed(used, server.now + TRUST_WINDOW - MS);
    assert!(!held.unverifiable.is_cancelled());
    server.cache.recheck_failed(used, server.now + TRUST_WINDOW);
    assert!(held.unverifiable.is_cancelled() && !held.revoked.is_cancelled());
    assert!(server.cache.due_for_recheck(server.now + TRUST_WINDOW).is_empty());
}

#[test]
fn a_lookup_without_a_subscription_extends_the_trust_by_one_window() {
    let (mut server, id) = (Server::subscribed(), id());
    let held = server.look_up(id, Duration::from_secs(60)).expect("good");
    server.cache.unsubscribe();
    server.now += TRUST_WINDOW;
    server.look_up(id, Duration::from_secs(60));
    server.cache.recheck_failed(id, server.now + TRUST_WINDOW - MS);
    assert!(!held.unverifiable.is_cancelled());
    server.cache.recheck_failed(id, server.now + TRUST_WINDOW);
    assert!(held.unverifiable.is_cancelled());
}

#[test]
fn a_stream_whose_session_may_have_expired_is_rechecked_and_goes_on_if_it_has_not() {
    let (mut server, id) = (Server::subscribed(), id());
    let held = server.look_up(id, Duration::from_secs(1)).expect("good");
    server.advance(Duration::from_secs(1));
    assert_eq!(server.cache.due_for_recheck(server.now), [id]);
    server.look_up(id, Duration::from_secs(60));
    assert!(server.cache.due_for_recheck(server.now).is_empty());
    server.advance(Duration::from_secs(60));
    let start = server.start_lookup(id);
    assert!(!held.revoked.is_cancelled());
    server.cache.complete_lookup(id, start, None);
    assert!(held.revoked.is_cancelled());
}

#[test]
fn the_cache_is_bounded_and_sessions_in_use_stay() {
    let mut server = Server::subscribed();
    let used = id();
    let _held = server.look_up(used, Duration::from_secs(3600)).expect("good");
    for _ in 0..3 * MAX_CACHED {
        server.look_up(id(), Duration::from_secs(3600));
    }
    assert!(server.cache.sessions.len() <= MAX_CACHED && server.accepts(used));
    let open =
        (0..2 * MAX_LOOKUPS).filter(|_| matches!(server.cache.join_lookup(id()), LookupRole::Leader(..))).count();
    assert_eq!(open, MAX_LOOKUPS, "concurrent lookups");
}

#[test]
fn the_time_limits_add_up_to_less_than_a_second() {
    assert!(TRUST_WINDOW + super::super::RECHECK_INTERVAL + super::super::RECHECK_TIMEOUT < Duration::from_secs(1));
}
