//! What a decision still needs to see.

use super::ids::Target;

/// What is to be read of an event before a command can be decided, or free units offered to its waitlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The waitlist entries that these mean.
    pub entries: Vec<Target>,
    /// All waitlist entries that want more units than this.
    pub entries_above: Option<u32>,
    /// The holds that lapse first: so many of them.
    pub holds: Option<u32>,
    /// The head of the waitlist: as much of it as tells who is offered so many units.
    pub queue: Option<u32>,
    /// How many reservations are live and entries wait.
    pub totals: bool,
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
    }
}
