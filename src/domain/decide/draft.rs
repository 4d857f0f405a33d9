//! A commit in the making: keeps counters, versions and changes in step.

use crate::domain::{
    caller::Actor,
    change::{Change, ChangeKind, EventRecord, Subject},
    command::Command,
    commit::{Commit, EndAll},
    event::{Counters, Event},
    ids::{Request, ReservationId},
    reservation::{Reservation, State, Weight},
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::{Entry, EntryState},
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
    entries: Vec<Entry>,
    ends_all: Option<EndAll>,
}

impl<'a> Draft<'a> {
    /// A draft for `command`; without one, for what the ledger does by itself.
    pub(super) fn new(snapshot: &'a Snapshot, command: Option<&'a Command>, now: Timestamp) -> Self {
        Self {
            snapshot,
            now,
            request: command.and_then(|command| command.request.as_ref()),
            actor: command.and_then(|command| command.caller.actor.as_ref()),
            counters: snapshot.event.counters,
            changes: Vec::with_capacity(1),
            valid_until: None,
            creates: None,
            entries: Vec::new(),
            ends_all: None,
        }
    }

    /// Units free after the changes drafted so far.
    pub(super) fn available(&self) -> u32 {
        self.snapshot.event.definition.capacity.saturating_sub(self.counters.reserved())
    }

    /// The decision is valid only before `moment`.
    pub(super) fn rests_on(&mut self, moment: Option<Timestamp>) {
        self.valid_until = [self.valid_until, moment].into_iter().flatten().min();
    }

    /// Drafts the command's own change of a reservation that has the weight `before` until now.
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

    /// Drafts the release of a lapsed hold. The ledger does it, not the caller.
    pub(super) fn release(&mut self, hold: &Reservation) {
        let after = Reservation { state: State::Expired, ..hold.clone() };
        self.push(ChangeKind::ReservationExpired, hold.weight(), after);
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
        event.definition_version = self.counters.version;
        event.update_time = self.now;
        let ended = self.ends_all.as_ref().map(|ends| ends.totals).unwrap_or_default();
        let cancelled_reservations = ended.reservations - ended.lapsed;
        let record = EventRecord { event, cancelled_reservations, ended_entries: ended.entries };
        self.changes.push(Change {
            request: self.request.cloned(),
            actor: self.actor.cloned(),
            ..Change::new(self.counters.version, kind, self.now, Subject::Event(Box::new(record)))
        });
    }

    /// Drafts the end of every live reservation and waiting entry.
    pub(super) fn end_all(&mut self, reason: Option<&String>) {
        let totals = self.snapshot.totals.unwrap_or_default();
        let (version, time, actor) = (self.counters.version, self.now, self.actor.cloned());
        self.ends_all = Some(EndAll { totals, version, time, reason: reason.cloned(), actor });
        let ended = i64::from(totals.reservations) + i64::from(totals.entries);
        self.counters = Counters { held: 0, confirmed: 0, waiting: 0, version: version + ended };
    }

    /// Drafts a new waitlist entry, as the command's own change: its ticket is the version that it makes.
    pub(super) fn join(&mut self, mut entry: Entry) {
        entry.ticket = self.counters.version + 1;
        self.counters.waiting += 1;
        let request = self.request.cloned();
        self.push_entry(ChangeKind::WaitlistJoined, entry, request);
    }

    /// Drafts that an entry leaves the waitlist, as the command's own change.
    pub(super) fn leave(&mut self, entry: &Entry) {
        let request = self.request.cloned();
        self.end_entry(ChangeKind::WaitlistLeft, entry, EntryState::Left, request);
    }

    /// Drafts that an entry leaves the waitlist because its user reserves.
    pub(super) fn step_out(&mut self, entry: &Entry) {
        self.end_entry(ChangeKind::WaitlistLeft, entry, EntryState::Left, None);
    }

    /// Drafts the end of an entry that can never be served.
    pub(super) fn dismiss(&mut self, entry: &Entry) {
        self.end_entry(ChangeKind::WaitlistEnded, entry, EntryState::Ended, None);
    }

    /// Drafts that the head of the waitlist was passed over. That is no change of its own: the promotion or reservation
    /// that passed it is.
    pub(super) fn pass_over(&mut self, first: &Entry) {
        self.entries.push(Entry { skips: first.skips + 1, ..first.clone() });
    }

    /// Drafts the new state of a waiting entry.
    pub(super) fn promote(&mut self, entry: &Entry, offer: Reservation) {
        self.counters.waiting -= 1;
        self.create(ChangeKind::WaitlistPromoted, offer);
        let (version, update_time) = (self.counters.version, self.now);
        self.entries.push(Entry { state: EntryState::Promoted, version, update_time, ..entry.clone() });
    }

    /// The same, because a caller wants it, who has to say why.
    pub(super) fn promote_for(&mut self, reason: &str, entry: &Entry, offer: Reservation) {
        self.promote(entry, offer);
        if let Some(own) = self.changes.last_mut() {
            own.reason = Some(reason.to_owned());
        }
    }

    /// Drafts the new size of a waiting entry, as the command's own change.
    pub(super) fn amend_entry(&mut self, entry: Entry) {
        let request = self.request.cloned();
        self.push_entry(ChangeKind::WaitlistAmended, entry, request);
    }

    pub(super) fn finish(self) -> Commit {
        Commit {
            counters: self.counters,
            changes: self.changes,
            valid_until: self.valid_until,
            creates: self.creates,
            entries: self.entries,
            ends_all: self.ends_all,
        }
    }

    fn push(&mut self, kind: ChangeKind, before: Weight, mut after: Reservation) {
        self.counters.version += 1;
        self.counters.shift(before, after.weight());
        after.version = self.counters.version;
        after.update_time = self.now;
        let subject = Subject::Reservation(Box::new(after));
        self.changes.push(Change::new(self.counters.version, kind, self.now, subject));
    }

    fn end_entry(&mut self, kind: ChangeKind, entry: &Entry, state: EntryState, request: Option<Request>) {
        self.counters.waiting -= 1;
        self.push_entry(kind, Entry { state, ..entry.clone() }, request);
    }

    fn push_entry(&mut self, kind: ChangeKind, mut entry: Entry, request: Option<Request>) {
        self.counters.version += 1;
        entry.version = self.counters.version;
        entry.update_time = self.now;
        self.entries.push(entry.clone());
        self.changes.push(Change {
            request,
            actor: self.actor.cloned(),
            ..Change::new(self.counters.version, kind, self.now, Subject::Entry(Box::new(entry)))
        });
    }

    fn has_touched(&self, reservation: &Reservation) -> bool {
        self.changes.iter().filter_map(Change::reservation).any(|changed| changed.id == reservation.id)
    }
}
