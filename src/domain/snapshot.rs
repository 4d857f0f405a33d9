//! The part of one event that a decision reads, and how it looks after a decision.

use std::collections::{HashMap, VecDeque};

use super::{
    change::{Change, Subject},
    command::{Action, Command},
    commit::Commit,
    event::Event,
    ids::{RequestId, ReservationId, Target, UserId},
    needs::{Needs, Totals},
    reservation::Reservation,
    time::Timestamp,
    waitlist::{Entry, Queue},
};

/// One event with the reservations and idempotency records that some commands concern.
///
/// [`Snapshot::advance`] turns it into what a read would show after a decision was committed, so that several
/// commands can be decided one after the other from one read.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The event.
    pub event: Event,
    /// The event's version when it was read.
    version_read: i64,
    reservations: HashMap<ReservationId, Reservation>,
    /// Each known user's live reservation, or else the newest that ended.
    of_user: HashMap<UserId, ReservationId>,
    records: HashMap<RequestId, Change>,
    /// Holds past their time that are not released yet, in expiry order.
    lapsed: VecDeque<ReservationId>,
    /// How many holds were read, in expiry order; and whether all that have lapsed are among them.
    holds_read: (u32, bool),
    /// When the next hold lapses, of those that have not.
    pub next_hold_expiry: Option<Timestamp>,
    /// The waitlist, as far as it was read.
    pub queue: Queue,
    /// What would end with the event.
    pub totals: Option<Totals>,
    /// Whether there has ever been a reservation or an entry, as far as is known.
    pub was_used: Option<bool>,
}

/// What was read to meet [`Needs`].
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Waitlist entries.
    pub entries: Vec<Entry>,
    /// Whether the head of the queue includes the first entries of each size.
    pub is_by_size: bool,
    /// Holds in expiry order; and how many were asked for.
    pub holds: (Vec<Reservation>, u32),
    /// What would end with the event.
    pub totals: Option<Totals>,
    /// Whether there has ever been a reservation or an entry, or may have been in what is no longer kept.
    pub was_used: Option<bool>,
}

impl Snapshot {
    /// The event alone.
    pub fn new(event: Event) -> Self {
        Self {
            version_read: event.counters.version,
            event,
            reservations: HashMap::new(),
            of_user: HashMap::new(),
            records: HashMap::new(),
            lapsed: VecDeque::new(),
            holds_read: (0, false),
            next_hold_expiry: None,
            queue: Queue::default(),
            totals: None,
            was_used: None,
        }
    }

    /// Adds a reservation that a command concerns. Of several reservations of one user the live one, else the
    /// newest, is the one that the user's name stands for.
    pub fn add_reservation(&mut self, reservation: Reservation) {
        let rank = |r: &Reservation| (r.state.is_live(), r.id);
        let known = self.of_user.get(&reservation.user_id).and_then(|id| self.reservations.get(id));
        if known.is_none_or(|known| rank(known) <= rank(&reservation)) {
            self.of_user.insert(reservation.user_id.clone(), reservation.id);
        }
        self.reservations.insert(reservation.id, reservation);
    }

    /// Adds the change that a request_id stands for.
    pub fn add_record(&mut self, change: Change) {
        if let Some(request) = &change.request {
            self.records.insert(request.id.clone(), change);
        }
    }

    /// The event's version when it was read.
    pub fn version_read(&self) -> i64 {
        self.version_read
    }

    /// Whether a commit has advanced it since it was read.
    pub fn is_advanced(&self) -> bool {
        self.event.counters.version != self.version_read
    }

    /// What has to be read before `command` can be decided.
    pub fn missing(&self, command: &Command) -> Needs {
        let mut needs = command.needs(&self.event);
        needs.entries.retain(|target| !self.queue.has_looked_up(target));
        needs.entries_above = needs.entries_above.filter(|units| !self.queue.knows_above(*units));
        needs.holds = self.holds_to_load(self.units_for(command).saturating_sub(self.event.available()));
        needs.queue = needs.queue.and_then(|_| self.queue_to_load());
        needs.totals &= self.totals.is_none();
        needs.history &= self.was_used.is_none();
        needs
    }

    /// How many units have to be free for a command: an upper bound, once its waitlist entry is known.
    fn units_for(&self, command: &Command) -> u32 {
        match &command.action {
            Action::PromoteEntry { target, .. } => self.queue.find(target).map_or(0, |entry| entry.min_quantity),
            _ => command.units(&self.event),
        }
    }

    /// For how many units the waitlist must be read before free units can be offered to it.
    fn queue_to_load(&self) -> Option<u32> {
        let (counters, policy) = (self.event.counters, &self.event.definition.waitlist);
        self.queue.units_to_load(self.event.available(), counters.waiting, policy.max_skips > 0)
    }

    /// How many holds must be read, from the first to lapse, before lapsed ones can free `units`. None: enough of them
    /// are known, or all.
    pub fn holds_to_load(&self, units: u32) -> Option<u32> {
        if units == 0 {
            return None;
        }
        let (read, all_lapsed_are_known) = self.holds_read;
        let known: u32 = self.lapsed().map(|hold| hold.quantity).fold(0, u32::saturating_add);
        // A hold has at least one unit. One more tells when the next units may become free. The number doubles each
        // time, so a few reads are enough.
        let wanted = read.saturating_add(units.max(read)).saturating_add(1);
        (!all_lapsed_are_known && known < units).then_some(wanted)
    }

    /// What has to be read before free units can be offered to the waitlist.
    pub(super) fn missing_to_promote(&self, now: Timestamp) -> Needs {
        let queue = self.queue_to_load().filter(|_| self.event.may_promote(now));
        Needs { queue, ..Needs::default() }
    }

    /// Adds what was read to meet `needs`. False: it has a waitlist entry that is newer than the event, which must be read
    /// again.
    pub fn add(&mut self, needs: &Needs, loaded: Loaded, now: Timestamp) -> bool {
        if loaded.entries.iter().any(|entry| entry.version > self.event.counters.version) {
            return false;
        }
        loaded.entries.into_iter().for_each(|entry| self.queue.add(entry));
        self.queue.has_loaded(needs, loaded.is_by_size);
        self.totals = self.totals.or(loaded.totals);
        self.was_used = self.was_used.or(loaded.was_used);
        let (holds, asked) = loaded.holds;
        if asked > 0 {
            let count = u32::try_from(holds.len()).unwrap_or(u32::MAX);
            let is_first_time = self.holds_read == (0, false);
            self.holds_read = (count, count < asked || holds.last().is_some_and(|last| !last.has_lapsed(now)));
            holds.into_iter().for_each(|hold| self.add_hold(hold, now, is_first_time));
        }
        true
    }

    /// Adds a hold that has lapsed at `now`, or the one that lapses next. Call it in expiry order. A reservation that a
    /// commit has changed since is newer, and stays.
    fn add_hold(&mut self, hold: Reservation, now: Timestamp, is_first_time: bool) {
        let is_newer = |known: &Reservation| known.version > self.version_read;
        let is_known = || !is_first_time && self.lapsed.contains(&hold.id);
        if self.reservations.get(&hold.id).is_some_and(is_newer) || is_known() {
            return;
        }
        if hold.has_lapsed(now) {
            self.lapsed.push_back(hold.id);
            self.add_reservation(hold);
        } else if self.next_hold_expiry.is_none() {
            self.next_hold_expiry = hold.expire_time;
        }
    }

    /// The reservation that `target` means.
    pub fn find(&self, target: &Target) -> Option<&Reservation> {
        let id = match target {
            Target::Id(id) => id,
            Target::User(user) => self.of_user.get(user)?,
        };
        self.reservations.get(id)
    }

    /// The change that `request_id` stands for.
    pub fn record(&self, request_id: &RequestId) -> Option<&Change> {
        self.records.get(request_id)
    }

    /// Holds past their time, in expiry order.
    pub fn lapsed(&self) -> impl Iterator<Item = &Reservation> {
        self.lapsed.iter().filter_map(|id| self.reservations.get(id))
    }

    /// Becomes what a read would show after `commit`. Where the commit ends everything on the event, the single rows
    /// are not followed, so no command can be decided on the snapshot after that.
    pub fn advance(&mut self, commit: &Commit) {
        for change in &commit.changes {
            match &change.subject {
                Subject::Reservation(reservation) => {
                    self.lapsed.retain(|id| *id != reservation.id);
                    self.add_reservation((**reservation).clone());
                }
                Subject::Entry(_) => {}
                Subject::Event(record) => self.event = record.event.clone(),
            }
            if change.request.is_some() {
                self.add_record(change.clone());
            }
        }
        commit.entries.iter().for_each(|entry| self.queue.advance(entry.clone()));
        self.event.counters = commit.counters;
    }
}
