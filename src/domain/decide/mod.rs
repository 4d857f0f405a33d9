//! `decide`: the one function that accepts or refuses a command.
//!
//! Pure and total: the same snapshot, command and moment give the same answer, and no input makes it panic. Strategies
//! differ in how they become exclusive; all of them decide here.

mod draft;
mod event;
mod reservation;
mod reserve;
mod waitlist;

use super::{
    change::Change,
    command::{Action, Command},
    commit::{Commit, Decision, Step},
    event::EventState,
    ids::Target,
    needs::Needs,
    refusal::{FirstUse, Refusal},
    reservation::Reservation,
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::Entry,
};
use draft::Draft;
pub use waitlist::promote;

/// Decides `command` on `snapshot` at `now`: PostgreSQL's time after the row lock was taken or the version was read.
///
/// A repetition is recognised before anything else, so that it is answered even when the same thing
/// would be refused today.
pub fn decide(snapshot: &Snapshot, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
    if let Some(change) = replay(snapshot, command)? {
        return Ok(Decision::Replay(Box::new(change.clone())));
    }
    if snapshot.event.state == EventState::Deleted {
        return Err(Refusal::EventNotFound);
    }
    let version = snapshot.event.counters.version;
    if command.expected_event_version.is_some_and(|expected| expected != version) {
        return Err(Refusal::EventVersionMismatch { current: version });
    }
    if command.is_about_the_event() {
        check_etag(command, || snapshot.event.etag())?;
    }
    let mut draft = Draft::new(snapshot, Some(command), now);
    match &command.action {
        Action::Reserve(reserve) => reserve::reserve(&mut draft, reserve, command.caller.hold_limit_reached)?,
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
        // Nothing to promote is no failure: another command may have done it.
        Action::Promote => return promote(snapshot, now).map(Decision::Commit).ok_or(Refusal::EntryNotFound),
        Action::Join(wish) => waitlist::join(&mut draft, wish)?,
        Action::Leave { target } => waitlist::leave(&mut draft, waiting(snapshot, command, target)?),
        Action::AmendEntry { target, quantity, min_quantity } => {
            let old = waiting(snapshot, command, target)?;
            waitlist::amend(&mut draft, old, *quantity, *min_quantity)?;
        }
        Action::PromoteEntry { target, reason } => {
            let entry = waiting(snapshot, command, target)?;
            waitlist::promote_out_of_turn(&mut draft, entry, reason)?;
        }
        Action::UpdateEvent(update) => event::update(&mut draft, update)?,
        Action::OpenEvent => event::open(&mut draft)?,
        Action::CloseEvent => event::close(&mut draft)?,
        Action::CancelEvent { reason } => event::cancel(&mut draft, reason.as_ref())?,
        Action::DeleteEvent => event::delete(&mut draft)?,
    }
    Ok(Decision::Commit(draft.finish()))
}

/// Decides `command`, if enough of `snapshot` is known, and advances the snapshot by what it does.
///
/// What a command needs depends on the event as the commands before it leave it. So the needs are computed here for
/// each command, and not once for a batch.
pub fn step(snapshot: &mut Snapshot, command: &Command, now: Timestamp) -> Step {
    match replay(snapshot, command) {
        Err(refusal) => return Step::Refused(refusal),
        Ok(Some(change)) => return Step::Replayed(Box::new(change.clone())),
        Ok(None) => {}
    }
    let needs = snapshot.missing(command);
    if !needs.is_empty() {
        return Step::Needs(needs);
    }
    match decide(snapshot, command, now) {
        Err(refusal) => Step::Refused(refusal),
        Ok(Decision::Replay(change)) => Step::Replayed(change),
        Ok(Decision::Commit(commit)) => {
            snapshot.advance(&commit);
            Step::Accepted(commit)
        }
    }
}

/// Offers what `cause` leaves free to the waitlist until nothing fits an entry whose turn it is, and advances the
/// snapshot. The change that answers the cause tells how the event stands after that. An error says what must be read
/// first; then nothing is changed.
pub fn promotions(snapshot: &mut Snapshot, cause: &mut Commit, now: Timestamp) -> Result<Vec<Commit>, Needs> {
    let needs = snapshot.missing_to_promote(now);
    if !needs.is_empty() {
        return Err(needs);
    }
    let mut promotions = Vec::new();
    while let Some(promotion) = promote(snapshot, now) {
        snapshot.advance(&promotion);
        promotions.push(promotion);
    }
    if let Some(last) = promotions.last() {
        cause.promotes_to(last.counters);
        snapshot.add_record(cause.answer().clone());
    }
    Ok(promotions)
}

/// The change that the command's request_id stands for, if it was carried out before.
fn replay<'a>(snapshot: &'a Snapshot, command: &Command) -> Result<Option<&'a Change>, Refusal> {
    let Some(request) = &command.request else { return Ok(None) };
    let Some(change) = snapshot.record(&request.id) else { return Ok(None) };
    match &change.request {
        Some(known) if known.fingerprint == request.fingerprint => Ok(Some(change)),
        _ => Err(Refusal::RequestIdReused(Box::new(FirstUse::of(change, may_see(command, change))))),
    }
}

/// Whether the caller of `command` may see which reservation or entry `change` is about: it acts for that user, and by
/// the kind of its command it may act for users at all.
fn may_see(command: &Command, change: &Change) -> bool {
    let acts_for_users = !command.is_about_the_event();
    acts_for_users && change.user().is_some_and(|user| command.caller.may_act_for(user))
}

fn check_etag(command: &Command, current: impl FnOnce() -> String) -> Result<(), Refusal> {
    let Some(etag) = &command.etag else { return Ok(()) };
    let current = current();
    if *etag == current { Ok(()) } else { Err(Refusal::EtagMismatch { current }) }
}

/// The reservation that `target` means, if the caller may change it, it is live, and its etag matches. Another user's
/// reservation counts as not found.
fn live<'a>(draft: &Draft<'a>, command: &Command, target: &Target) -> Result<&'a Reservation, Refusal> {
    let found = draft.snapshot.find(target).filter(|found| command.caller.may_act_for(&found.user_id));
    let found = found.ok_or(Refusal::ReservationNotFound)?;
    check_etag(command, || found.etag())?;
    reservation::check_live(found, draft.now)?;
    Ok(found)
}

/// The entry that `target` means, if the caller may change it, it waits, and its etag matches. Another user's entry
/// counts as not found.
fn waiting<'a>(snapshot: &'a Snapshot, command: &Command, target: &Target) -> Result<&'a Entry, Refusal> {
    let found = snapshot.queue.find(target).filter(|found| command.caller.may_act_for(&found.user_id));
    let found = found.ok_or(Refusal::EntryNotFound)?;
    check_etag(command, || found.etag())?;
    if found.waits() { Ok(found) } else { Err(Refusal::NotWaiting(found.state)) }
}

#[cfg(test)]
pub(crate) mod tests;
