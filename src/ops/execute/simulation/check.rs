//! What has to be so at the end of a run: the counters of each event are right, and what callers were told is true.

use super::{
    caller::{Asked, Told},
    state::Shared,
};
use crate::domain::{
    change::{Change, ChangeKind},
    command::Action,
};

/// Finds what is wrong at the end of a run.
pub(super) fn check(shared: &Shared, asked: &[Asked]) -> Vec<String> {
    shared.with(|state| {
        let mut problems = std::mem::take(&mut state.violations);
        state.worlds.values().for_each(super::World::check);
        let changes: Vec<_> = state.worlds.values().flat_map(|world| &world.changes).collect();
        for (place, it) in asked.iter().enumerate() {
            let lost: Vec<_> = state.lost.iter().filter(|change| is_answer_to(change, place, it)).collect();
            let made: Vec<_> = changes.iter().filter(|change| is_answer_to(change, place, it)).copied().collect();
            if let Err(problem) = check_one(it, &made, &lost, &changes, &state.lost) {
                let operation = it.command.operation();
                problems.push(format!("call {place}, {operation}, {problem}: told {:?}, made {made:?}", it.told));
            }
        }
        problems
    })
}

fn check_one(
    it: &Asked,
    made: &[&Change],
    lost: &[&Change],
    all: &[&Change],
    all_lost: &[Change],
) -> Result<(), &'static str> {
    if it.is_dry_run {
        return if made.is_empty() && lost.is_empty() { Ok(()) } else { Err("was to be validated only") };
    }
    if made.len() > 1 {
        return Err("took effect more than once");
    }
    let answers: Vec<_> = it
        .told
        .iter()
        .filter_map(|told| if let Told::Done(change, _) = told { Some(&**change) } else { None })
        .collect();
    let is_there = |change: &Change| all.iter().any(|made| **made == *change);
    if answers.iter().any(|change| !is_there(change) && !all_lost.contains(change)) {
        return Err("was answered with a change that is not in the history");
    }
    let surviving: Vec<_> = answers.iter().filter(|change| is_there(change)).collect();
    if surviving.windows(2).any(|two| two[0] != two[1]) {
        return Err("has several answers");
    }
    let firsts = it.told.iter().filter(|told| matches!(told, Told::Done(_, false))).count();
    if firsts > 1 && all_lost.is_empty() {
        return Err("was done for the first time more than once");
    }
    let is_sure = |told: &Told| matches!(told, Told::Refused(_) | Told::NotDone);
    // What was lost with a primary has no effect: decided once more, it may be refused.
    if it.calls == it.told.len() && it.told.iter().all(is_sure) && !made.is_empty() {
        return Err("took effect, and all its callers were told that it did not");
    }
    Ok(())
}

/// Whether a change is what the command of this place asked for.
fn is_answer_to(change: &Change, place: usize, asked: &Asked) -> bool {
    let is_its = change.actor.as_ref().is_some_and(|actor| actor.as_str() == format!("call-{place}"));
    is_its && kinds(&asked.command.action).contains(&change.kind)
}

fn kinds(action: &Action) -> &'static [ChangeKind] {
    match action {
        Action::Reserve(_) => &[ChangeKind::ReservationHeld, ChangeKind::ReservationConfirmed],
        Action::Confirm { .. } => &[ChangeKind::ReservationConfirmed],
        Action::Cancel { .. } => &[ChangeKind::ReservationReduced, ChangeKind::ReservationCancelled],
        Action::Extend { .. } => &[ChangeKind::ReservationExtended],
        Action::Amend { .. } => &[ChangeKind::ReservationAmended],
        Action::Join(_) => &[ChangeKind::WaitlistJoined],
        Action::Leave { .. } => &[ChangeKind::WaitlistLeft],
        Action::AmendEntry { .. } => &[ChangeKind::WaitlistAmended],
        Action::PromoteEntry { .. } => &[ChangeKind::WaitlistPromoted],
        Action::UpdateEvent(_) => &[ChangeKind::EventUpdated],
        Action::OpenEvent => &[ChangeKind::EventOpened],
        Action::CloseEvent => &[ChangeKind::EventClosed],
        Action::CancelEvent { .. } => &[ChangeKind::EventCancelled],
        Action::DeleteEvent => &[ChangeKind::EventDeleted],
        // Time does these.
        Action::Expire(_) | Action::Promote => &[],
    }
}

/// Whether a change was made, even if it was lost since.
pub(super) fn has_change(shared: &Shared, change: &Change) -> bool {
    shared.with(|state| {
        let of_event = state.worlds.get(change.event_id()).map_or(&[][..], |world| &world.changes);
        of_event.iter().chain(&state.lost).any(|made| made == change)
    })
}
