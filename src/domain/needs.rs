//! What a decision still needs to read.

use super::ids::Target;

/// What must be read of an event before a command can be decided, or free units offered to its waitlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The waitlist entries of these targets.
    pub entries: Vec<Target>,
    /// All waitlist entries that want more units than this.
    pub entries_above: Option<u32>,
    /// How many holds to read, those that lapse first.
    pub holds: Option<u32>,
    /// For how many units to read the head of the waitlist: enough entries to tell who is offered them.
    pub queue: Option<u32>,
    /// Whether to count the live reservations and waiting entries.
    pub totals: bool,
    /// Whether to find out if there has ever been a reservation or an entry.
    pub history: bool,
}

/// What ends when an event is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Live reservations.
    pub reservations: u32,
    /// Of these, holds whose time is over.
    pub lapsed: u32,
    /// Waitlist entries that wait.
    pub entries: u32,
}

impl Needs {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another command needs.
    pub fn add(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.entries_above = [self.entries_above, other.entries_above].into_iter().flatten().min();
        self.holds = [self.holds, other.holds].into_iter().flatten().max();
        self.queue = self.queue.max(other.queue);
        self.totals |= other.totals;
        self.history |= other.history;
    }
}
