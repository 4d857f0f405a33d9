//! What is relied on, and for how long: each rule, with a clock that the test winds.

use std::time::Duration;

use super::*;
use crate::{
    auth::{
        principal::{Role, Roles},
        sessions::token::Token,
    },
    config::SessionKind,
    domain::{ids::UserId, time::Timestamp},
};

const PAUSE: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// What is known on a server, and a clock that a test winds.
struct Server {
    known: Known,
    now: Instant,
}

impl Server {
    /// One that hears what is revoked.
    fn subscribed() -> Self {
        let now = Instant::now();
        let mut known = Known::new(PAUSE, now);
        known.subscribe();
        known.heard_all_until(now);
        Self { known, now }
    }

    /// Time passes, and it goes on hearing everything.
    fn hears_on(&mut self, span: Duration) {
        self.now += span;
        self.known.heard_all_until(self.now);
    }

    /// Redis is asked and says that the session is good for so long.
    fn learns(&mut self, id: SessionId, left: Duration) -> Option<Arc<Credentials>> {
        let Asking::You(..) = self.known.ask(id) else { panic!("nobody else asks") };
        let ticket = self.known.ticket(id, self.now);
        let settled = self.known.settle(id, ticket, Some(&session(id, left)));
        self.known.answered(id);
        match settled {
            Settled::Good(credentials) => Some(credentials),
            Settled::Ended | Settled::AskAgain => None,
        }
    }

    fn lets_in(&mut self, id: SessionId) -> bool {
        !matches!(self.known.find(id, self.now), Found::Unknown)
    }
}

fn id() -> SessionId {
    Token::new().expect("chance").id()
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
fn what_is_known_is_relied_on_only_for_as_long_as_everything_was_heard() {
    let (mut server, id) = (Server::subscribed(), id());
    server.learns(id, Duration::from_secs(60));
    for _ in 0..50 {
        server.hears_on(TRUST - MS);
        assert!(server.lets_in(id));
    }
    server.now += TRUST;
    assert!(!server.lets_in(id), "nothing was heard for too long");
    server.known.heard_all_until(server.now);
    assert!(server.lets_in(id), "the answer came late, but it came: nothing was missed");
}

#[test]
fn once_the_connection_is_lost_nothing_is_relied_on_until_it_is_learned_anew() {
    let (mut server, id) = (Server::subscribed(), id());
    server.learns(id, Duration::from_secs(60));
    server.known.unsubscribe();
    assert!(!server.lets_in(id));
    server.known.subscribe();
    server.known.heard_all_until(server.now);
    assert!(!server.lets_in(id), "it may have been revoked in between");
    server.learns(id, Duration::from_secs(60));
    assert!(server.lets_in(id));
}

#[test]
fn what_was_asked_before_a_subscription_is_not_relied_on_in_it() {
    let (mut server, id) = (Server::subscribed(), id());
    server.known.unsubscribe();
    let Asking::You(..) = server.known.ask(id) else { panic!("nobody else asks") };
    let ticket = server.known.ticket(id, server.now);
    server.known.subscribe();
    server.known.heard_all_until(server.now);
    server.known.settle(id, ticket, Some(&session(id, PAUSE)));
    server.known.answered(id);
    assert!(!server.lets_in(id));
}

#[test]
fn an_answer_from_before_a_revocation_is_asked_for_again() {
    let (mut server, id) = (Server::subscribed(), id());
    let Asking::You(..) = server.known.ask(id) else { panic!("nobody else asks") };
    let ticket = server.known.ticket(id, server.now);
    server.known.revoked(id);
    assert!(matches!(server.known.settle(id, ticket, Some(&session(id, PAUSE))), Settled::AskAgain));
    assert!(!server.lets_in(id));
    let ticket = server.known.ticket(id, server.now);
    assert!(matches!(server.known.settle(id, ticket, None), Settled::Ended));
    assert!(!server.lets_in(id));
}

#[test]
fn a_session_that_is_revoked_is_withdrawn_from_who_has_it() {
    let (mut server, one, other) = (Server::subscribed(), id(), id());
    let held = [one, other].map(|id| server.learns(id, PAUSE).expect("good"));
    server.known.revoked(one);
    assert!(held[0].withdrawn.is_cancelled() && !server.lets_in(one));
    assert!(!held[1].withdrawn.is_cancelled() && server.lets_in(other));
}

#[test]
fn a_session_is_known_no_longer_than_it_lasts() {
    let (mut server, id) = (Server::subscribed(), id());
    server.learns(id, Duration::from_secs(1));
    server.hears_on(Duration::from_millis(999));
    assert!(server.lets_in(id));
    server.hears_on(MS);
    assert!(!server.lets_in(id));
}

#[test]
fn a_session_in_use_is_told_to_redis_once_a_pause() {
    let (mut server, id) = (Server::subscribed(), id());
    server.learns(id, Duration::from_secs(3600));
    server.hears_on(PAUSE - MS);
    assert!(matches!(server.known.find(id, server.now), Found::Good(_)));
    server.hears_on(MS);
    assert!(matches!(server.known.find(id, server.now), Found::GoodSoFar(_)));
    assert!(matches!(server.known.find(id, server.now), Found::Good(_)), "the first who came tells it");
}

#[test]
fn what_is_in_use_is_doubted_where_nothing_vouches_for_it_and_what_is_not_is_forgotten() {
    let (mut server, used, idle) = (Server::subscribed(), id(), id());
    let held = server.learns(used, Duration::from_secs(60)).expect("good");
    server.learns(idle, Duration::from_secs(60));
    assert!(server.known.doubtful(server.now).is_empty());
    assert!(server.lets_in(idle), "it may be called with again");

    server.known.unsubscribe();
    assert_eq!(server.known.doubtful(server.now), [used]);
    // As long as it would have been sure anyhow, an answer that does not come ends nothing.
    server.known.could_not_ask(used, server.now + TRUST - MS);
    assert!(!held.unsure.is_cancelled());
    server.known.could_not_ask(used, server.now + TRUST);
    assert!(held.unsure.is_cancelled() && !held.withdrawn.is_cancelled());
    assert!(server.known.doubtful(server.now + TRUST).is_empty());
}

#[test]
fn an_answer_while_nobody_listens_vouches_for_what_is_in_use_for_as_long_as_for_anything() {
    let (mut server, id) = (Server::subscribed(), id());
    let held = server.learns(id, Duration::from_secs(60)).expect("good");
    server.known.unsubscribe();
    server.now += TRUST;
    server.learns(id, Duration::from_secs(60));
    server.known.could_not_ask(id, server.now + TRUST - MS);
    assert!(!held.unsure.is_cancelled());
    server.known.could_not_ask(id, server.now + TRUST);
    assert!(held.unsure.is_cancelled());
}

#[test]
fn a_stream_of_a_session_that_may_have_lapsed_is_asked_about_and_goes_on_if_it_has_not() {
    let (mut server, id) = (Server::subscribed(), id());
    let held = server.learns(id, Duration::from_secs(1)).expect("good");
    server.hears_on(Duration::from_secs(1));
    assert_eq!(server.known.doubtful(server.now), [id]);
    server.learns(id, Duration::from_secs(60));
    assert!(server.known.doubtful(server.now).is_empty());
    server.hears_on(Duration::from_secs(60));
    let Asking::You(..) = server.known.ask(id) else { panic!("nobody else asks") };
    let ticket = server.known.ticket(id, server.now);
    assert!(!held.withdrawn.is_cancelled());
    server.known.settle(id, ticket, None);
    assert!(held.withdrawn.is_cancelled());
}

#[test]
fn what_is_kept_is_bounded_and_what_is_in_use_stays() {
    let mut server = Server::subscribed();
    let used = id();
    let _held = server.learns(used, Duration::from_secs(3600)).expect("good");
    for _ in 0..3 * MAX_KNOWN {
        server.learns(id(), Duration::from_secs(3600));
    }
    assert!(server.known.live.len() <= MAX_KNOWN && server.lets_in(used));
    let open = (0..2 * MAX_ASKED).filter(|_| matches!(server.known.ask(id()), Asking::You(..))).count();
    assert_eq!(open, MAX_ASKED, "questions at once");
}

#[test]
fn the_times_add_up_to_less_than_a_second() {
    assert!(TRUST + super::super::LOOK_INTERVAL + super::super::LOOK_LIMIT < Duration::from_secs(1));
}
