//! A commit in the making: keeps counters, versions and changes in step.

use crate::domain::{
    caller::Actor,
    change::{Change, ChangeKind, EventRecord, Subject},
    command::Command,
    decide::Commit,
    event::{Counters, Event},
    ids::{Request, ReservationId},
    reservation::{Reservation, State, Weight},
    snapshot::Snapshot,
    time::Timestamp,
};

/// A commit in the making. Dropped without [`Draft::finish`], it leaves no trace.
pub(super) struct Draft<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) now: Timestamp,
    request: Option<&'a Request>,
    actor: Option<&'a Actor>,
    counters: Counters,
    changes: Vec<Change>,
    valid_until: Option<Timestamp>,
    creates: Option<ReservationId>,
    ends_all: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, command: &'a Command, now: Timestamp) -> Self {
        Self {
            snapshot,
            now,
            request: command.request.as_ref(),
            actor: command.caller.actor.as_ref(),
            counters: snapshot.event.counters,
            changes: Vec::with_capacity(1),
            valid_until: None,
            creates: None,
            ends_all: false,
        }
    }

    /// Units free after what is drafted so far.
    pub(super) fn available(&self) -> u32 {
        self.snapshot.event.definition.capacity.saturating_sub(self.counters.reserved())
    }

    /// The decision is right only before `moment`.
    pub(super) fn rests_on(&mut self, moment: Option<Timestamp>) {
        self.valid_until = [self.valid_until, moment].into_iter().flatten().min();
    }

    /// Drafts the command's own change of a reservation, which weighed `before` until now.
    pub(super) fn change(&mut self, kind: ChangeKind, before: Weight, after: Reservation) {
        self.push(kind, before, after);
        if let Some(own) = self.changes.last_mut() {
            own.request = self.request.cloned();
            own.actor = self.actor.cloned();
        }
    }

    /// Drafts a new reservation, as the command's own change.
    pub(super) fn create(&mut self, kind: ChangeKind, reservation: Reservation) {
        self.creates = Some(reservation.id);
        self.change(kind, Weight::default(), reservation);
    }

    /// Drafts the release of a lapsed hold: time did it, and not the caller.
    pub(super) fn release(&mut self, hold: &Reservation) {
        let after = Reservation { state: State::Expired, ..hold.clone() };
        self.push(ChangeKind::Expired, hold.weight(), after);
    }

    /// Releases lapsed holds, oldest first, until `units` are free or none is left. Returns whether
    /// they are free.
    pub(super) fn reclaim(&mut self, units: u32) -> bool {
        let mut lapsed = self.snapshot.lapsed();
        while self.available() < units {
            let Some(hold) = lapsed.next() else { return false };
            // The clock may have been read before the list was, never after: check, don't trust.
            if hold.has_lapsed(self.now) && !self.has_touched(hold) {
                self.release(hold);
            }
        }
        true
    }

    /// Drafts a change of the event itself.
    pub(super) fn change_event(&mut self, kind: ChangeKind, mut event: Event) {
        self.counters.version += 1;
        event.counters = self.counters;
        event.update_time = self.now;
        self.changes.push(Change {
            version: self.counters.version,
            kind,
            time: self.now,
            request: self.request.cloned(),
            actor: self.actor.cloned(),
            subject: Subject::Event(Box::new(EventRecord { event, cancelled_reservations: 0 })),
        });
    }

    /// Ends every live reservation before what is drafted.
    pub(super) fn end_all(&mut self) {
        self.ends_all = true;
        self.counters.held = 0;
        self.counters.confirmed = 0;
    }

    pub(super) fn finish(self) -> Commit {
        Commit {
            counters: self.counters,
            changes: self.changes,
            valid_until: self.valid_until,
            creates: self.creates,
            ends_all: self.ends_all,
        }
    }

    fn push(&mut self, kind: ChangeKind, before: Weight, mut after: Reservation) {
        self.counters.version += 1;
        self.counters.shift(before, after.weight());
        after.version = self.counters.version;
        after.update_time = self.now;
        self.changes.push(Change {
            version: self.counters.version,
            kind,
            time: self.now,
            request: None,
            actor: None,
            subject: Subject::Reservation(Box::new(after)),
        });
    }

    fn has_touched(&self, reservation: &Reservation) -> bool {
        self.changes.iter().filter_map(Change::reservation).any(|changed| changed.id == reservation.id)
    }
}
