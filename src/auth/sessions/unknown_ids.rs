//! Session ids that Redis did not know a moment ago, so that a client that repeats an ended session costs no further
//! lookups. Bounded: guessed tokens are all different.

use std::{collections::HashSet, mem, time::Duration};

use tokio::time::Instant;

use crate::auth::session_token::SessionId;

/// How long an id is kept: up to twice as long, since two generations are. No session appears under an id that was
/// asked for before, since its token was unknown, except where Redis itself comes back with older data.
const GENERATION: Duration = Duration::from_secs(2);
/// The ids of one generation.
const MAX_IDS: usize = 8 * 1024;

/// The ids, in two generations.
pub struct UnknownIds {
    recent: HashSet<SessionId>,
    older: HashSet<SessionId>,
    began: Instant,
}

impl UnknownIds {
    /// No ids.
    pub fn new(now: Instant) -> Self {
        Self { recent: HashSet::new(), older: HashSet::new(), began: now }
    }

    /// Whether Redis did not know the id a moment ago.
    pub fn contains(&mut self, id: SessionId, now: Instant) -> bool {
        self.age(now);
        self.recent.contains(&id) || self.older.contains(&id)
    }

    /// Adds an id that Redis does not know.
    pub fn insert(&mut self, id: SessionId, now: Instant) {
        self.age(now);
        if self.recent.len() >= MAX_IDS {
            self.older = mem::take(&mut self.recent);
        }
        self.recent.insert(id);
    }

    /// Removes an id that Redis knows after all.
    pub fn remove(&mut self, id: SessionId) {
        self.recent.remove(&id);
        self.older.remove(&id);
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age >= GENERATION {
            let last = mem::take(&mut self.recent);
            self.older = if age < 2 * GENERATION { last } else { HashSet::new() };
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests;
