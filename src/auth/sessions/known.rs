//! What this server knows of sessions without asking, and for how long it may rely on it. Pure: the time
//! is an argument.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{record::Session, token::SessionId};
use crate::auth::{access::Credentials, denial::Denial};

/// How long what is known may be relied on after the last moment at which Redis was known to have told
/// of everything that was revoked.
pub const TRUST: Duration = Duration::from_millis(500);
/// Sessions that are known at once, but for those that are in use.
const MAX_KNOWN: usize = 32 * 1024;
/// Sessions that are asked about at once.
const MAX_ASKED: usize = 4096;

/// What became of a question about a session: its credentials, or why there are none.
pub type Answer = Result<Arc<Credentials>, Denial>;

/// The sessions that are known.
pub struct Known {
    live: HashMap<SessionId, Entry>,
    asked: HashMap<SessionId, Question>,
    /// Counts the subscriptions: what was learned before one may have been revoked unheard.
    subscription: u64,
    is_subscribed: bool,
    /// Until when what was learned during this subscription may be relied on.
    trusted_until: Instant,
    /// After how long a session in use is asked about again.
    pause: Duration,
}

#[derive(Clone)]
struct Entry {
    credentials: Arc<Credentials>,
    /// When it lapses, at the earliest.
    ends: Instant,
    /// When the next call is to be told to Redis as a use of it.
    refresh: Instant,
    /// When it is to be asked about again although nothing speaks against it.
    recheck: Instant,
    /// During which subscription it was learned; 0: during none.
    subscription: u64,
    /// Until when it can't have been revoked for too long, whatever was heard.
    sure_until: Instant,
    is_used: bool,
}

struct Question {
    answer: watch::Receiver<Option<Answer>>,
    /// Revoked since it was asked: the answer may be older than that.
    is_stale: bool,
}

/// A question that is to be put to Redis.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    asked: Instant,
    subscription: u64,
}

/// What is known of a session that somebody calls with.
pub enum Found {
    /// It is good.
    Good(Arc<Credentials>),
    /// It is good; and it is time to ask about it again.
    GoodSoFar(Arc<Credentials>),
    /// Nothing.
    Unknown,
}

/// What follows from what Redis said.
pub enum Settled {
    /// The session is good.
    Good(Arc<Credentials>),
    /// There is no such session.
    Ended,
    /// It was revoked while Redis answered: the answer may be from before.
    AskAgain,
}

/// Who is to ask.
pub enum Asking {
    /// The caller, who tells the others here.
    You(watch::Sender<Option<Answer>>, watch::Receiver<Option<Answer>>),
    /// Somebody does.
    Another(watch::Receiver<Option<Answer>>),
    /// Nobody: too many questions are open.
    Nobody,
}

impl Known {
    /// Nothing is known, and nothing relied on.
    /// Sessions in use are asked about again after `pause`.
    pub fn new(pause: Duration, now: Instant) -> Self {
        let (live, asked) = Default::default();
        Self { live, asked, subscription: 0, is_subscribed: false, trusted_until: now, pause }
    }

    /// From now on it is heard of every session that is revoked. What was learned before counts no more,
    /// since some may have been revoked in between.
    pub fn subscribe(&mut self) {
        self.subscription += 1;
        self.is_subscribed = true;
    }

    /// It is heard of nothing any more. What is known serves no further call.
    pub fn unsubscribe(&mut self) {
        self.is_subscribed = false;
        // Those in use are sure for as long as they would have been.
        let (sure, subscription) = (self.trusted_until, self.subscription);
        for entry in self.live.values_mut().filter(|entry| entry.subscription == subscription) {
            entry.sure_until = entry.sure_until.max(sure);
            entry.subscription = 0;
        }
    }

    /// Everything was heard of that was revoked until `when`.
    pub fn heard_all_until(&mut self, when: Instant) {
        self.trusted_until = when + TRUST;
    }

    /// Whether calls may rely on what is known.
    pub fn is_trusted(&self, now: Instant) -> bool {
        self.is_subscribed && now < self.trusted_until
    }

    fn covers(&self, entry: &Entry, now: Instant) -> bool {
        entry.subscription == self.subscription && self.is_trusted(now)
    }

    /// What is known of a session, for a call.
    pub fn find(&mut self, id: SessionId, now: Instant) -> Found {
        let is_trusted = self.is_trusted(now);
        let subscription = self.subscription;
        let Some(entry) = self.live.get_mut(&id) else { return Found::Unknown };
        if !is_trusted || entry.subscription != subscription || now >= entry.ends {
            return Found::Unknown;
        }
        entry.is_used = true;
        if now < entry.refresh {
            return Found::Good(Arc::clone(&entry.credentials));
        }
        // Once: whoever asks now sets the next time.
        entry.refresh = entry.ends;
        Found::GoodSoFar(Arc::clone(&entry.credentials))
    }

    /// Who is to ask about a session.
    pub fn ask(&mut self, id: SessionId) -> Asking {
        if let Some(question) = self.asked.get(&id) {
            return Asking::Another(question.answer.clone());
        }
        if self.asked.len() >= MAX_ASKED {
            return Asking::Nobody;
        }
        let (sender, answer) = watch::channel(None);
        self.asked.insert(id, Question { answer: answer.clone(), is_stale: false });
        Asking::You(sender, answer)
    }

    /// To be taken before Redis is asked.
    pub fn ticket(&mut self, id: SessionId, now: Instant) -> Ticket {
        if let Some(question) = self.asked.get_mut(&id) {
            question.is_stale = false;
        }
        Ticket { asked: now, subscription: if self.is_subscribed { self.subscription } else { 0 } }
    }

    /// Takes note of what Redis said. The question must be open: it hears what is revoked meanwhile.
    pub fn settle(&mut self, id: SessionId, ticket: Ticket, said: Option<&Session>) -> Settled {
        if self.asked.get(&id).is_some_and(|question| question.is_stale) {
            return Settled::AskAgain;
        }
        let Some(session) = said else {
            self.withdraw(id);
            return Settled::Ended;
        };
        let Ticket { asked, subscription } = ticket;
        // Redis measured later than it was asked: it lapses no earlier than this.
        let (ends, sure_until) = (asked + session.left, asked + TRUST);
        let pause = self.pause.min(session.lifetime / 4);
        let (refresh, recheck) = (asked + pause.saturating_sub(session.idle), asked + self.pause);
        if let Some(entry) = self.live.get_mut(&id) {
            let sure_until = entry.sure_until.max(sure_until);
            *entry = Entry { ends, refresh, recheck, sure_until, subscription, ..entry.clone() };
            return Settled::Good(Arc::clone(&entry.credentials));
        }
        let Some(principal) = session.principal() else { return Settled::Ended };
        let credentials = Arc::new(Credentials {
            session: Some(id),
            withdrawn: CancellationToken::new(),
            ..Credentials::of(principal)
        });
        self.make_room();
        let kept = Arc::clone(&credentials);
        let entry = Entry { credentials: kept, ends, refresh, recheck, subscription, sure_until, is_used: true };
        self.live.insert(id, entry);
        Settled::Good(credentials)
    }

    /// The question is settled.
    pub fn answered(&mut self, id: SessionId) {
        self.asked.remove(&id);
    }

    /// It was heard that a session is revoked.
    pub fn revoked(&mut self, id: SessionId) {
        if let Some(question) = self.asked.get_mut(&id) {
            question.is_stale = true;
        }
        self.withdraw(id);
    }

    fn withdraw(&mut self, id: SessionId) {
        if let Some(entry) = self.live.remove(&id) {
            entry.credentials.withdrawn.cancel();
        }
    }

    /// Forgets what lapsed and is not in use, and returns what is in use and has to be asked about:
    /// streams go on for as long as it is known that they may.
    pub fn doubtful(&mut self, now: Instant) -> Vec<SessionId> {
        let mut doubtful = Vec::new();
        let mut live = std::mem::take(&mut self.live);
        live.retain(|id, entry| {
            let is_good = now < entry.ends && self.covers(entry, now);
            if is_in_use(entry) && !(is_good && now < entry.recheck) {
                doubtful.push(*id);
            }
            is_good || is_in_use(entry)
        });
        self.live = live;
        doubtful
    }

    /// Redis could not be asked about a session that is in use. Where it may have been revoked for too
    /// long, what was begun with it ends.
    pub fn could_not_ask(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.live.get(&id) else { return };
        let is_good = now < entry.ends && (self.covers(entry, now) || now < entry.sure_until);
        if !is_good {
            entry.credentials.unsure.cancel();
            self.live.remove(&id);
        }
    }

    fn make_room(&mut self) {
        if self.live.len() < MAX_KNOWN {
            return;
        }
        // Those that nobody called with since it was last full.
        self.live.retain(|_, entry| std::mem::take(&mut entry.is_used) || is_in_use(entry));
        if self.live.len() >= MAX_KNOWN / 4 * 3 {
            self.live.retain(|_, entry| is_in_use(entry));
        }
    }
}

/// Whether a call or a stream has it.
fn is_in_use(entry: &Entry) -> bool {
    Arc::strong_count(&entry.credentials) > 1
}

#[cfg(test)]
mod tests;
