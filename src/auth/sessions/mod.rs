//! Sessions: opaque tokens that can be taken back. Redis has them; each server remembers those that it
//! was shown, so that a call costs no round trip; and yet a revoked one is refused everywhere within a
//! second.
//!
//! [`token`] is the secret and its hash, [`record`] what is kept of a session, [`store`] the scripts in
//! Redis, [`known`] what this server may rely on without asking, [`ear`] how it hears what is revoked.
//!
//! # Why a revoked session does not pass for longer than a second
//!
//! Revoking deletes the session and publishes its id, in one step (`lua/revoke.lua`). Messages of Redis may
//! be lost with a connection, so hearing none proves nothing. What proves something is the answer to a
//! ping on the connection that the messages come by: Redis keeps the order, so once the answer is here,
//! everything is that was published before the ping was sent. What is known is relied on only for
//! [`known::TRUST`] after the sending of the last ping that was answered; then, and as soon as the
//! connection is lost, every call asks Redis. What was learned before a subscription began counts no
//! more; nor does an answer that was under way when its session was revoked. So a session that passes
//! here at a moment N was not revoked before N - TRUST, whatever got lost, and no two clocks are
//! compared. A message that does arrive, as nearly all do, takes a millisecond.
//!
//! Streams end in the same way: at once when the message arrives. While nothing proves that all messages
//! do, Redis is asked about each session that has a stream open, every [`LOOK_INTERVAL`]; where it
//! does not answer within [`LOOK_LIMIT`] either, the stream ends, with UNAVAILABLE instead of
//! UNAUTHENTICATED: its caller may go on where it was, once Redis is back. TRUST + LOOK_INTERVAL + LOOK_LIMIT
//! is less than a second.
//!
//! While Redis is away nothing of a session passes. What other tokens and certificates show is checked
//! without it.

pub mod ear;
pub mod known;
pub mod record;
pub mod store;
pub mod token;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    known::{Answer, Asking, Found, Known, Settled},
    record::{Session, Wish},
    store::{Reach, Store, Trouble},
    token::{SessionId, Token},
};
use super::{access::Credentials, denial::Denial};
use crate::{config::Sessions as Settings, domain::ids::UserId, telemetry::metrics::Metrics};

/// How often it is looked whether sessions in use are still good.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long Redis may take to answer that.
pub const LOOK_LIMIT: Duration = Duration::from_millis(300);
/// Such questions at once.
const LOOKS: usize = 256;
/// How often a question is put again whose session was revoked while it was answered. It is gone then;
/// who still finds it is told to come again.
const TRIES: usize = 3;

/// The sessions.
pub struct Sessions {
    store: Store,
    known: Mutex<Known>,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// A session that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// What its bearer sends; it is kept nowhere.
    pub token: Token,
    /// The session.
    pub session: Session,
    /// Those of the same user that were revoked for it.
    pub gone: Vec<SessionId>,
}

/// For what a session is asked about.
#[derive(Clone, Copy)]
enum Purpose {
    /// Somebody calls with it.
    Use,
    /// A stream is open with it.
    Look,
}

/// Closes a question, even where who asked it panics.
struct Question<'s>(&'s Sessions, SessionId);

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.0.known().answered(self.1);
    }
}

impl Sessions {
    /// The sessions that the settings describe; none where they name no Redis. Nothing is connected yet.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Option<Arc<Self>>, Trouble> {
        if !settings.is_configured() {
            return Ok(None);
        }
        let store = Store::new(settings)?;
        let known = Mutex::new(Known::new(settings.refresh_interval, Instant::now()));
        Ok(Some(Arc::new(Self { store, known, settings: settings.clone(), metrics })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token it is, where that is known. None: Redis has to be asked ([`Sessions::look_up`]).
    pub fn check(self: &Arc<Self>, token: &str) -> Result<Option<Arc<Credentials>>, Denial> {
        let id = SessionId::of_token(token).map_err(Denial::Token)?;
        let found = self.known().find(id, Instant::now());
        Ok(match found {
            Found::Good(credentials) => Some(credentials),
            Found::GoodSoFar(credentials) => {
                // The call does not wait for it.
                let sessions = Arc::clone(self);
                tokio::spawn(async move { sessions.ask(id, Purpose::Use).await });
                Some(credentials)
            }
            Found::Unknown => None,
        })
    }

    /// Whose token it is, by Redis.
    pub async fn look_up(self: &Arc<Self>, token: &str) -> Answer {
        let id = SessionId::of_token(token).map_err(Denial::Token)?;
        self.ask(id, Purpose::Use).await
    }

    /// Asks Redis about a session, or waits for the answer to who has asked already. The question is a
    /// task of its own: who asked first may hang up, and others wait for it.
    async fn ask(self: &Arc<Self>, id: SessionId, purpose: Purpose) -> Answer {
        let asking = self.known().ask(id);
        let mut answer = match asking {
            Asking::Another(answer) => answer,
            Asking::Nobody => return Err(Denial::SessionsUnavailable),
            Asking::You(sender, answer) => {
                let sessions = Arc::clone(self);
                tokio::spawn(async move {
                    let question = Question(&sessions, id);
                    let said = sessions.ask_redis(id, purpose).await;
                    // Before anybody is told: who comes from now on asks anew.
                    drop(question);
                    sender.send_replace(Some(said));
                });
                answer
            }
        };
        let told = answer.wait_for(Option::is_some).await;
        told.ok().and_then(|told| (*told).clone()).unwrap_or(Err(Denial::SessionsUnavailable))
    }

    async fn ask_redis(&self, id: SessionId, purpose: Purpose) -> Answer {
        for _ in 0..TRIES {
            let ticket = self.known().ticket(id, Instant::now());
            let said = match purpose {
                Purpose::Use => self.store.use_session(id).await,
                Purpose::Look => self.store.get(id).await,
            };
            let outcome = match &said {
                Ok(Some(_)) => "good",
                Ok(None) => "ended",
                Err(_) => "unavailable",
            };
            self.metrics.session_lookups.with_label_values(&[outcome]).inc();
            let said = said.map_err(|error| {
                tracing::debug!(%error, "a session could not be looked up");
                Denial::SessionsUnavailable
            })?;
            match self.known().settle(id, ticket, said.as_ref()) {
                Settled::Good(credentials) => return Ok(credentials),
                Settled::Ended => return Err(Denial::SessionEnded),
                Settled::AskAgain => {}
            }
        }
        Err(Denial::SessionsUnavailable)
    }

    /// Hears what is revoked and looks after the sessions in use, until `stop`.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(ear::listen(&self, &stop), self.look_after(&stop));
    }

    async fn look_after(self: &Arc<Self>, stop: &CancellationToken) {
        let mut turns = interval(LOOK_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(turns.tick()).await.is_some() {
            let doubtful = self.known().doubtful(Instant::now());
            self.look_at(doubtful).await;
        }
    }

    /// Asks Redis about sessions in use. However many they are, it has the same time for all.
    async fn look_at(self: &Arc<Self>, doubtful: Vec<SessionId>) {
        let mut unanswered: HashSet<_> = doubtful.iter().copied().collect();
        let looks = doubtful.into_iter().map(|id| async move { (id, self.ask(id, Purpose::Look).await) });
        let mut answers = stream::iter(looks).buffer_unordered(LOOKS);
        let limit = Instant::now() + LOOK_LIMIT;
        while let Ok(Some((id, answer))) = timeout_at(limit, answers.next()).await {
            if !matches!(answer, Err(Denial::SessionsUnavailable)) {
                unanswered.remove(&id);
            }
        }
        for id in unanswered {
            self.known().could_not_ask(id, Instant::now());
        }
    }

    /// What a session gets that does not say otherwise.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens a session.
    pub async fn open(&self, wish: &Wish) -> Result<Opened, Trouble> {
        let token = Token::new().ok_or(Trouble::NoChance)?;
        let (session, gone) = self.store.open(token.id(), wish).await?;
        let session = session.ok_or(Trouble::Unreadable)?;
        self.note_revoked("limit", gone.len());
        Ok(Opened { token, session, gone })
    }

    /// A session that is within reach.
    pub async fn get(&self, id: SessionId, reach: &Reach) -> Result<Option<Session>, Trouble> {
        Ok(self.store.get(id).await?.filter(|session| reach.has(session)))
    }

    /// The sessions of a user that are within reach, the oldest first.
    pub async fn list(&self, user_id: &UserId, reach: &Reach) -> Result<Vec<Session>, Trouble> {
        let mut sessions = self.store.list(user_id).await?;
        sessions.retain(|session| reach.has(session));
        sessions.sort_by_key(|session| (session.created, session.id));
        Ok(sessions)
    }

    /// Revokes a session that is within reach; returns whether there was one. This server refuses it from
    /// now on, the others within a second.
    pub async fn revoke(&self, id: SessionId, reach: &Reach) -> Result<bool, Trouble> {
        let was_there = self.store.revoke(id, reach).await?;
        if was_there {
            self.known().revoked(id);
            self.note_revoked("call", 1);
        }
        Ok(was_there)
    }

    /// Revokes the sessions of a user that are within reach; returns how many they were. `how` tells the
    /// metrics who asked for it.
    pub async fn revoke_user(&self, user_id: &UserId, reach: &Reach, how: &str) -> Result<u32, Trouble> {
        let revoked = self.store.revoke_user(user_id, reach).await?;
        self.note_revoked(how, revoked as usize);
        Ok(revoked)
    }

    fn note_revoked(&self, how: &str, count: usize) {
        self.metrics.sessions_revoked.with_label_values(&[how]).inc_by(count as u64);
    }
}
