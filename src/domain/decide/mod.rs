//! `decide`: the one function that says yes or no.
//!
//! Pure and total: the same snapshot, command and moment give the same answer, and no input makes it
//! panic. Executors differ in how they get exclusivity; what they then do is this.

mod draft;
mod event;
mod reservation;
mod reserve;
mod waitlist;

use super::{
    change::{Change, Subject},
    command::{Action, Command, Target},
    event::Counters,
    ids::ReservationId,
    refusal::Refusal,
    reservation::Reservation,
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::Entry,
};
use draft::Draft;
pub use waitlist::promote;

/// A "yes".
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The request was carried out before: tell this change again, and write nothing.
    Replay(Box<Change>),
    /// Write this.
    Commit(Commit),
}

/// What to write for one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The event's counters and version after it.
    pub counters: Counters,
    /// The changes in version order. The last one is the answer to the command; those before it
    /// release lapsed holds whose units it takes, and end waitlist entries that it leaves no room for.
    pub changes: Vec<Change>,
    /// The decision is right only if this moment has not come when it is written: a hold on which it
    /// rests lapses then, or booking closes.
    pub valid_until: Option<Timestamp>,
    /// The reservation that comes into being with it.
    pub creates: Option<ReservationId>,
    /// The waitlist entries that it touches, as they are after it.
    pub entries: Vec<Entry>,
    /// Every live reservation of the event ends with this commit, and every waitlist entry, before
    /// `changes`.
    pub ends_all: bool,
}

impl Commit {
    /// The change that answers the command.
    pub fn answer(&self) -> &Change {
        self.changes.last().expect("a commit has at least the change that answers its command")
    }

    /// Makes room for one change for each reservation and each entry that ended with the event, before
    /// its own; `cancelled` of the reservations were not lapsed already.
    pub fn follow_ended(&mut self, reservations: u32, cancelled: u32, entries: u32) {
        let ended = reservations + entries;
        self.counters.version += i64::from(ended);
        for change in &mut self.changes {
            change.version += i64::from(ended);
            if let Subject::Event(record) = &mut change.subject {
                record.event.counters.version += i64::from(ended);
                record.cancelled_reservations = cancelled;
                record.ended_entries = entries;
            }
        }
    }
}

/// Decides `command` on `snapshot` at `now`, PostgreSQL's time once exclusivity is had.
///
/// A repetition is recognised before anything else, so that it is answered even when the same thing
/// would be refused today.
pub fn decide(snapshot: &Snapshot, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
    if let Some(change) = replay(snapshot, command)? {
        return Ok(Decision::Replay(Box::new(change.clone())));
    }
    let mut draft = Draft::new(snapshot, Some(command), now);
    match &command.action {
        Action::Reserve(reserve) => {
            check_etag(command, || snapshot.event.etag())?;
            reserve::reserve(&mut draft, reserve, command.caller.hold_limit_reached)?;
        }
        Action::Confirm { target, quantity } => {
            let hold = live(&draft, command, target)?;
            reservation::confirm(&mut draft, hold, *quantity)?;
        }
        Action::Cancel { target, quantity, reason } => {
            let old = live(&draft, command, target)?;
            reservation::cancel(&mut draft, old, *quantity, reason.as_deref())?;
        }
        Action::Extend { target, ttl } => {
            let hold = live(&draft, command, target)?;
            reservation::extend(&mut draft, hold, *ttl)?;
        }
        Action::Amend { target, quantity, labels } => {
            let old = live(&draft, command, target)?;
            reservation::amend(&mut draft, old, *quantity, labels.as_ref())?;
        }
        Action::Expire(id) => reservation::expire(&mut draft, *id)?,
        Action::Join(wish) => {
            check_etag(command, || snapshot.event.etag())?;
            waitlist::join(&mut draft, wish)?;
        }
        Action::Leave { target } => {
            let found = snapshot.line.find(target).filter(|found| command.caller.may_act_for(&found.user_id));
            let entry = found.ok_or(Refusal::EntryNotFound)?;
            check_etag(command, || entry.etag())?;
            waitlist::leave(&mut draft, entry)?;
        }
        Action::UpdateEvent(update) => {
            check_etag(command, || snapshot.event.etag())?;
            event::update(&mut draft, update)?;
        }
        Action::OpenEvent => {
            check_etag(command, || snapshot.event.etag())?;
            event::open(&mut draft)?;
        }
        Action::CloseEvent => {
            check_etag(command, || snapshot.event.etag())?;
            event::close(&mut draft)?;
        }
        Action::CancelEvent { reason } => {
            check_etag(command, || snapshot.event.etag())?;
            event::cancel(&mut draft, reason.clone())?;
        }
    }
    Ok(Decision::Commit(draft.finish()))
}

/// Decides several commands on one event, one after the other, each on what those before it left.
pub fn fold<'a>(
    snapshot: &mut Snapshot,
    commands: impl IntoIterator<Item = &'a Command>,
    now: Timestamp,
) -> Vec<Result<Decision, Refusal>> {
    commands
        .into_iter()
        .map(|command| {
            let decision = decide(snapshot, command, now);
            if let Ok(Decision::Commit(commit)) = &decision {
                snapshot.advance(commit);
            }
            decision
        })
        .collect()
}

/// The change that the command's request_id stands for, if it was carried out before.
fn replay<'a>(snapshot: &'a Snapshot, command: &Command) -> Result<Option<&'a Change>, Refusal> {
    let Some(request) = &command.request else { return Ok(None) };
    let Some(change) = snapshot.record(&request.id) else { return Ok(None) };
    match &change.request {
        Some(known) if known.fingerprint == request.fingerprint => Ok(Some(change)),
        _ => Err(Refusal::RequestIdReused),
    }
}

fn check_etag(command: &Command, current: impl FnOnce() -> String) -> Result<(), Refusal> {
    let Some(etag) = &command.etag else { return Ok(()) };
    let current = current();
    if *etag == current { Ok(()) } else { Err(Refusal::EtagMismatch { current }) }
}

/// The reservation that `target` means, if it is the caller's to change, live, and the one that the
/// caller has seen. Somebody else's is not there at all.
fn live<'a>(draft: &Draft<'a>, command: &Command, target: &Target) -> Result<&'a Reservation, Refusal> {
    let found = draft.snapshot.find(target).filter(|found| command.caller.may_act_for(&found.user_id));
    let found = found.ok_or(Refusal::ReservationNotFound)?;
    check_etag(command, || found.etag())?;
    reservation::check_live(found, draft.now)?;
    Ok(found)
}

#[cfg(test)]
mod tests;
