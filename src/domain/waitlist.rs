//! The waitlist: the users who wait for places of an event, their order, and the policy.
//!
//! ```text
//!            Join              places come free, or an operator chooses it
//!   (none) --------> WAITING -----------------------------------------------> PROMOTED: a reservation of the
//!                       |                                                     same id, HELD
//!                       | \  Leave, Reserve
//!                       |  \-------> LEFT
//!                       | the event is cancelled, or can't serve the party any more
//!                       \----------> ENDED
//! ```
//!
//! Entries are ordered by the event version at which they joined: the order in which their commands were committed.
//! [`Policy`] says what happens when the head of the waitlist is a party too large for the free units.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    ids::{EventId, ReservationId, Target, UserId},
    limits::{self, Labels},
    needs::Needs,
    time::Timestamp,
};

/// How an event's waitlist works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether users can join. Entries that wait already are promoted in any case.
    pub enabled: bool,
    /// Entries that may wait at once.
    pub max_size: u32,
    /// How long an offer is held for its user; the event's default for holds if none.
    pub offer_ttl: Option<Duration>,
    /// How often parties that fit may pass the head of the waitlist before all others wait until it is promoted. Zero
    /// is strict FIFO.
    pub max_skips: u32,
    /// Whether newcomers may take free places while others wait.
    pub newcomers_may_overtake: bool,
    /// Whether users can join before booking opens.
    #[serde(default)]
    pub join_before_booking: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: false,
            max_size: limits::DEFAULT_WAITLIST_SIZE,
            offer_ttl: None,
            max_skips: 0,
            newcomers_may_overtake: false,
            join_before_booking: false,
        }
    }
}

/// Where an entry stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryState {
    /// It waits for places.
    Waiting,
    /// It became the reservation of its id. Final.
    Promoted,
    /// Its user left the waitlist. Final.
    Left,
    /// The event was cancelled, or its capacity or `max_quantity` made smaller than the party. Final.
    Ended,
}

impl EntryState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Promoted, Self::Left, Self::Ended];

    /// The name that the database and the error details use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Promoted => "PROMOTED",
            Self::Left => "LEFT",
            Self::Ended => "ENDED",
        }
    }
}

/// A user's place in the waitlist of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name within the event, and that of the reservation that it becomes.
    pub id: ReservationId,
    /// The event.
    pub event_id: EventId,
    /// The user who waits.
    pub user_id: UserId,
    /// Units wanted.
    pub quantity: u32,
    /// The fewest units that would do; not zero, and not more than wanted.
    pub min_quantity: u32,
    /// Where it stands.
    pub state: EntryState,
    /// The event version at which it joined, which is its place in the order.
    pub ticket: i64,
    /// How often it was passed over while it was the head of the waitlist.
    pub skips: u32,
    /// The client's own data, which the reservation inherits.
    pub labels: Labels,
    /// The event version that its last change made.
    pub version: i64,
    /// When it joined.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
}

impl Entry {
    /// Names this version of the entry.
    pub fn etag(&self) -> String {
        format!("w{}", self.version)
    }

    /// Whether it still waits.
    pub fn waits(&self) -> bool {
        self.state == EntryState::Waiting
    }
}

/// The part of an event's waitlist that was read.
///
/// A waitlist can be long and a decision needs little of it, so it is read in part: for a number of units, which means
/// enough entries to tell who is offered that many. Units that are given out are deducted, and
/// [`Queue::units_to_load`] says when more must be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    entries: HashMap<ReservationId, Entry>,
    /// Each known user's waiting entry, or else the newest that ended.
    of_user: HashMap<UserId, ReservationId>,
    /// The known entries that wait, in order.
    waiting: BTreeMap<i64, ReservationId>,
    /// Entries that were looked up, whether or not they exist.
    looked_up: HashSet<Target>,
    /// All entries that want more units than this are known.
    known_above: Option<u32>,
    /// Units for which it was read.
    loaded: u32,
    /// Whether that includes the first entries of each size.
    is_loaded_by_size: bool,
    /// Units of the known entries that have left the queue since.
    spent: u32,
}

impl Queue {
    /// Adds entries that were read. Entries that are known already are newer, and stay.
    pub fn add(&mut self, entry: Entry) {
        if !self.entries.contains_key(&entry.id) {
            self.put(entry);
        }
    }

    /// Stores an entry as a commit leaves it.
    pub(super) fn advance(&mut self, entry: Entry) {
        let known = self.entries.get(&entry.id).filter(|known| known.waits());
        let stays = |known: &Entry| entry.waits() && entry.min_quantity == known.min_quantity;
        // One of another size is no longer among the first of the size as which it was read.
        if let Some(known) = known.filter(|known| !stays(known)) {
            self.spent = self.spent.saturating_add(known.quantity);
        }
        self.put(entry);
    }

    fn put(&mut self, entry: Entry) {
        if entry.waits() {
            self.waiting.insert(entry.ticket, entry.id);
        } else {
            self.waiting.remove(&entry.ticket);
        }
        let rank = |entry: &Entry| (entry.waits(), entry.ticket);
        let known = self.of_user.get(&entry.user_id).and_then(|id| self.entries.get(id));
        if known.is_none_or(|known| known.id == entry.id || rank(known) <= rank(&entry)) {
            self.of_user.insert(entry.user_id.clone(), entry.id);
        }
        self.entries.insert(entry.id, entry);
    }

    /// The entry that `target` means.
    pub fn find(&self, target: &Target) -> Option<&Entry> {
        let id = match target {
            Target::Id(id) => id,
            Target::User(user) => self.of_user.get(user)?,
        };
        self.entries.get(id)
    }

    /// The known entries that wait, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.waiting.values().filter_map(|id| self.entries.get(id))
    }

    /// Whether the entry that `target` means is known, or known not to exist.
    pub fn has_looked_up(&self, target: &Target) -> bool {
        self.looked_up.contains(target)
    }

    /// Whether all entries are known that want more units than `units`.
    pub fn knows_above(&self, units: u32) -> bool {
        self.known_above.is_some_and(|known| known <= units)
    }

    /// For how many units the queue must be read before `free` units can be given out, with `waiting` entries in all.
    /// None: enough of it is known.
    pub fn units_to_load(&self, free: u32, waiting: u32, may_skip: bool) -> Option<u32> {
        let all_are_known = self.waiting.len() >= waiting as usize;
        let is_enough = self.loaded.saturating_sub(self.spent) >= free && (self.is_loaded_by_size || !may_skip);
        if all_are_known || is_enough {
            return None;
        }
        // The number doubles each time, so a few reads are enough.
        Some(self.spent.saturating_add(free.max(self.spent)))
    }

    /// Records how much of the queue was read, before any entry left it.
    pub(super) fn has_loaded(&mut self, needs: &Needs, may_skip: bool) {
        self.looked_up.extend(needs.entries.iter().cloned());
        if let Some(units) = needs.entries_above {
            self.known_above = Some(self.known_above.map_or(units, |known| known.min(units)));
        }
        if let Some(units) = needs.queue {
            self.loaded = units;
            self.is_loaded_by_size = may_skip;
        }
    }
}

#[cfg(test)]
mod tests;
