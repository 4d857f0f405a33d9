//! Decisions, and what they write.

use super::{
    caller::Actor,
    change::Change,
    event::Counters,
    ids::ReservationId,
    needs::{Needs, Totals},
    refusal::Refusal,
    time::Timestamp,
    waitlist::Entry,
};

/// An accepted command.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The request was carried out before: answer with this change again, and write nothing.
    Replay(Box<Change>),
    /// Write this.
    Commit(Commit),
}

/// All effects of one decision, as data: nothing else is written.
///
/// The rows of reservations and of the event are the subjects of `changes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The event's counters and version after it.
    pub counters: Counters,
    /// The changes in version order. The last one answers the command; those before it release lapsed holds
    /// whose units it takes, and end waitlist entries that it leaves no room for.
    pub changes: Vec<Change>,
    /// The commit may only be written before this moment: a hold on which it rests lapses then, or booking
    /// closes.
    pub valid_until: Option<Timestamp>,
    /// The reservation that it inserts; all others exist already.
    pub creates: Option<ReservationId>,
    /// The waitlist entries that it writes, as they are after it.
    pub entries: Vec<Entry>,
    /// Ends everything that is live, at the versions before those of `changes`.
    pub ends_all: Option<EndAll>,
}

/// A set-based effect: every live reservation of an event ends, and every waiting entry, with a change each.
#[derive(Clone, Debug, PartialEq)]
pub struct EndAll {
    /// How many there are of each; the write fails if it finds others.
    pub totals: Totals,
    /// The event's version before. Reservations get the versions after it by id, then entries by ticket.
    pub version: i64,
    /// When.
    pub time: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// Who asked for it.
    pub actor: Option<Actor>,
}

impl Commit {
    /// Notes that promotions which it caused leave the event with these counters.
    pub fn promotes_to(&mut self, counters: Counters) {
        self.changes.last_mut().expect("a commit has at least the change that answers its command").after_promotions =
            Some(counters);
    }

    /// The change that answers the command.
    pub fn answer(&self) -> &Change {
        self.changes.last().expect("a commit has at least the change that answers its command")
    }
}

/// How far one command has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It can't be decided before this is read.
    Needs(Needs),
    /// The rules refuse it.
    Refused(Refusal),
    /// It was carried out before.
    Replayed(Box<Change>),
    /// It is accepted, and the snapshot shows what it leaves.
    Accepted(Commit),
}
