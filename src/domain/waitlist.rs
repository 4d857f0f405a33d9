//! The waitlist: who waits for places of an event, in which order, by which policy.
//!
//! ```text
//!            Join              places come free
//!   (none) --------> WAITING -------------------> PROMOTED: a reservation of the same id, HELD
//!                       | \  Leave, Reserve
//!                       |  \-------> LEFT
//!                       | the event is cancelled, or made too small for the party
//!                       \----------> ENDED
//! ```
//!
//! The order of the line is that of the versions at which its entries joined: who got the event's lock
//! first. [`Policy`] says what happens when the first in line is a party too large for what is free.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    command::Target,
    ids::{EventId, ReservationId, UserId},
    limits::{self, Labels},
    time::Timestamp,
};

/// How an event's waitlist works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether one can join. Those who wait are served in any case.
    pub enabled: bool,
    /// Entries that may wait at once.
    pub max_size: u32,
    /// How long an offer is held for its user; the event's default for holds if none.
    pub offer_ttl: Option<Duration>,
    /// How often the first in line may be passed over by others whose party fits, before everybody
    /// waits until it is served. Zero is strict FIFO.
    pub max_skips: u32,
    /// Whether who does not wait may take places that are free while others wait.
    pub newcomers_may_overtake: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: false,
            max_size: limits::DEFAULT_WAITLIST_SIZE,
            offer_ttl: None,
            max_skips: 0,
            newcomers_may_overtake: false,
        }
    }
}

/// Where an entry stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryState {
    /// In line.
    Waiting,
    /// Served: it became the reservation of its id. Final.
    Promoted,
    /// Given up by its user. Final.
    Left,
    /// The event was cancelled, or made smaller than the party. Final.
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

/// A user's place in the line of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name within the event, and that of the reservation that it becomes.
    pub id: ReservationId,
    /// The event.
    pub event_id: EventId,
    /// Who waits.
    pub user_id: UserId,
    /// Units wanted.
    pub quantity: u32,
    /// The fewest units that would do; not zero, and not more than wanted.
    pub min_quantity: u32,
    /// Where it stands.
    pub state: EntryState,
    /// The event version at which it joined: its place in the line.
    pub ticket: i64,
    /// How often it was passed over while it was the first in line.
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

    /// Whether it is in line.
    pub fn waits(&self) -> bool {
        self.state == EntryState::Waiting
    }
}

/// What is known of an event's line.
///
/// A line may be long and a decision needs little of it, so it is loaded in part: for so many units,
/// which means enough to tell who gets them if no more than these are given out. What is given out is
/// deducted, and [`Line::units_to_load`] tells when more has to be known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    entries: HashMap<ReservationId, Entry>,
    /// Each known user's waiting entry, or else the newest that ended.
    of_user: HashMap<UserId, ReservationId>,
    /// The known entries that wait, in order.
    waiting: BTreeMap<i64, ReservationId>,
    /// Units for which it was loaded.
    loaded: u32,
    /// Units of the known entries that have left the line since.
    spent: u32,
}

impl Line {
    /// Adds what was loaded. What is known already is newer.
    pub fn add(&mut self, entry: Entry) {
        if !self.entries.contains_key(&entry.id) {
            self.put(entry);
        }
    }

    /// Takes note of an entry as a commit leaves it.
    pub(super) fn advance(&mut self, entry: Entry) {
        if !entry.waits() && self.waiting.contains_key(&entry.ticket) {
            self.spent = self.spent.saturating_add(entry.quantity);
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

    /// For how many units the line has to be loaded before `free` ones can be given out, of `waiting`
    /// entries in all. None: it is known well enough.
    pub fn units_to_load(&self, free: u32, waiting: u32) -> Option<u32> {
        let all_are_known = self.waiting.len() >= waiting as usize;
        if all_are_known || self.loaded.saturating_sub(self.spent) >= free {
            return None;
        }
        // Twice as many each time: however often it is asked, few loads are enough.
        Some(self.spent.saturating_add(free.max(self.spent)))
    }

    /// Takes note that it was loaded for so many units, as it was before anything left it.
    pub fn is_loaded_for(&mut self, units: u32) {
        self.loaded = units;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entry(ticket: i64, user: &str, state: EntryState) -> Entry {
        Entry {
            id: ReservationId(Uuid::from_u128(ticket.unsigned_abs().into())),
            event_id: EventId::parse("event").expect("valid"),
            user_id: UserId::parse(user).expect("valid"),
            quantity: 2,
            min_quantity: 1,
            state,
            ticket,
            skips: 0,
            labels: Labels::default(),
            version: ticket,
            create_time: Timestamp::MIN,
            update_time: Timestamp::MIN,
        }
    }

    #[test]
    fn a_users_name_stands_for_the_waiting_entry_or_else_the_newest() {
        let ann = Target::User(UserId::parse("ann").expect("valid"));
        let mut line = Line::default();
        for (ticket, state, found) in [
            (3, EntryState::Left, 3),
            (9, EntryState::Promoted, 9),
            (5, EntryState::Waiting, 5),
            (7, EntryState::Left, 5),
        ] {
            line.add(entry(ticket, "ann", state));
            assert_eq!(line.find(&ann).map(|entry| entry.ticket), Some(found));
        }
        line.advance(entry(5, "ann", EntryState::Left));
        assert_eq!(line.waiting().count(), 0);
    }

    #[test]
    fn what_is_loaded_again_does_not_bring_back_who_left() {
        let mut line = Line::default();
        line.add(entry(1, "ann", EntryState::Waiting));
        line.advance(entry(1, "ann", EntryState::Promoted));
        line.add(entry(1, "ann", EntryState::Waiting));
        assert_eq!(line.waiting().count(), 0);
    }

    #[test]
    fn a_line_is_loaded_anew_when_more_is_given_out_than_it_was_loaded_for() {
        let mut line = Line::default();
        assert_eq!(line.units_to_load(2, 0), None, "nobody waits");
        assert_eq!(line.units_to_load(2, 5), Some(2));
        line.is_loaded_for(2);
        line.add(entry(1, "ann", EntryState::Waiting));
        line.add(entry(2, "bob", EntryState::Waiting));
        assert_eq!(line.units_to_load(2, 5), None);
        line.advance(entry(1, "ann", EntryState::Promoted));
        assert_eq!(line.units_to_load(1, 4), Some(4), "for the two that were given out, and as many more");
        assert_eq!(line.units_to_load(1, 1), None, "everybody who waits is known");
    }
}
