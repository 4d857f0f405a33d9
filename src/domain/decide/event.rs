//! Update, Open, Close and Cancel of the event itself, and the rules between its fields.

use super::{draft::Draft, waitlist};
use crate::domain::{
    change::ChangeKind,
    command::EventUpdate,
    event::{Definition, Event, EventState},
    refusal::Refusal,
};

pub(super) fn update(draft: &mut Draft<'_>, update: &EventUpdate) -> Result<(), Refusal> {
    let old = &draft.snapshot.event;
    if old.state == EventState::Cancelled {
        return Err(Refusal::EventState(old.state));
    }
    let definition = update.merged_into(&old.definition);
    let problems = definition.contradictions();
    if !problems.is_empty() {
        return Err(Refusal::Inconsistent(problems));
    }
    shrink(draft, definition.capacity)?;
    waitlist::end_impossible(draft, definition.largest_reservation());
    let after = Event { definition, ..old.clone() };
    draft.change_event(ChangeKind::EventUpdated, after);
    Ok(())
}

/// Capacity may shrink to what is reserved. Lapsed holds reserve nothing: they are released first.
fn shrink(draft: &mut Draft<'_>, capacity: u32) -> Result<(), Refusal> {
    let reduced_by = draft.snapshot.event.definition.capacity.saturating_sub(capacity);
    if draft.reclaim(reduced_by) {
        return Ok(());
    }
    Err(Refusal::CapacityBelowReserved { capacity, reserved: capacity + reduced_by - draft.available() })
}

pub(super) fn open(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    switch(draft, EventState::Closed, EventState::Open, ChangeKind::EventOpened)
}

pub(super) fn close(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    switch(draft, EventState::Open, EventState::Closed, ChangeKind::EventClosed)
}

fn switch(draft: &mut Draft<'_>, from: EventState, to: EventState, kind: ChangeKind) -> Result<(), Refusal> {
    let old = &draft.snapshot.event;
    if old.state != from {
        return Err(Refusal::EventState(old.state));
    }
    let after = Event { state: to, ..old.clone() };
    draft.change_event(kind, after);
    Ok(())
}

pub(super) fn cancel(draft: &mut Draft<'_>, reason: Option<&String>) -> Result<(), Refusal> {
    let old = &draft.snapshot.event;
    if old.state == EventState::Cancelled {
        return Err(Refusal::EventState(old.state));
    }
    let after = Event { state: EventState::Cancelled, cancel_reason: reason.cloned(), ..old.clone() };
    draft.end_all(reason);
    draft.change_event(ChangeKind::EventCancelled, after);
    Ok(())
}

/// An event that had reservations or waitlist entries stays, with their history. It can be cancelled.
pub(super) fn delete(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if draft.snapshot.was_used != Some(false) {
        return Err(Refusal::EventUsed);
    }
    let after = Event { state: EventState::Deleted, ..draft.snapshot.event.clone() };
    draft.change_event(ChangeKind::EventDeleted, after);
    Ok(())
}

impl Definition {
    /// Fields that contradict each other, with what they must do.
    pub fn contradictions(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        let mut check = |right: bool, field, rule| {
            if !right {
                problems.push((field, rule));
            }
        };
        let ordered = |a: Option<_>, b: Option<_>| a.zip(b).is_none_or(|(a, b)| a <= b);
        check(ordered(self.start_time, self.end_time), "end_time", "must not be before start_time");
        check(
            self.booking_open_time.zip(self.booking_close_time()).is_none_or(|(open, close)| open < close),
            if self.booking_close.relative().is_some() { "booking_close" } else { "booking_close_time" },
            "must be after booking_open_time",
        );
        check(
            self.limits.hold_ttl_default() <= self.limits.hold_ttl_max(),
            "limits.hold_ttl_default",
            "must not be longer than limits.hold_ttl_max",
        );
        problems
    }
}
