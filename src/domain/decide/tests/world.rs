//! A world of plain rows, on which decisions are carried out one by one.

use std::{collections::HashMap, time::Duration};

use super::commands::at;
use crate::domain::{
    change::{Change, ChangeKind, Subject},
    command::{Action, Command},
    commit::{Commit, Decision, EndAll},
    decide::{decide, promote},
    event::{Counters, Definition, Event, EventState, Limits},
    ids::{EventId, ReservationId, Target},
    needs::{Needs, Totals},
    refusal::Refusal,
    reservation::{Reservation, State},
    snapshot::{Loaded, Snapshot},
    time::Timestamp,
    waitlist::{Entry, EntryState, Policy},
};

/// What a database would hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct World {
    pub(crate) event: Event,
    pub(crate) rows: HashMap<ReservationId, Reservation>,
    pub(crate) entries: HashMap<ReservationId, Entry>,
    pub(crate) changes: Vec<Change>,
}

impl World {
    pub(crate) fn new(capacity: u32, waitlist: Policy) -> Self {
        let limits = Limits {
            max_quantity: 4,
            hold_ttl_default: Some(Duration::from_micros(10)),
            hold_ttl_max: Some(Duration::from_micros(20)),
            max_extensions: 2,
        };
        let event = Event {
            definition_version: 1,
            id: EventId::parse("event").expect("valid"),
            definition: Definition { capacity, limits, waitlist, ..Definition::default() },
            state: EventState::Open,
            cancel_reason: None,
            counters: Counters::default(),
            create_time: at(0),
            update_time: at(0),
        };
        Self { event, rows: HashMap::new(), entries: HashMap::new(), changes: Vec::new() }
    }

    /// What is read for these commands before anything else is known.
    pub(crate) fn load<'c>(&self, commands: impl IntoIterator<Item = &'c Command>) -> Snapshot {
        let mut snapshot = Snapshot::new(self.event.clone());
        for command in commands {
            let found = match command.target() {
                Some(Target::Id(id)) => self.rows.get(&id),
                Some(Target::User(user)) => {
                    self.rows.values().filter(|row| row.user_id == user).max_by_key(|row| (row.state.is_live(), row.id))
                }
                None => None,
            };
            found.into_iter().for_each(|row| snapshot.add_reservation(row.clone()));
            let record = command.request.as_ref().and_then(|request| {
                self.changes.iter().find(|change| change.request.as_ref().is_some_and(|known| known.id == request.id))
            });
            record.into_iter().for_each(|change| snapshot.add_record(change.clone()));
        }
        snapshot
    }

    /// Reads what else is needed, and adds it.
    pub(crate) fn meet(&self, snapshot: &mut Snapshot, needs: &Needs, now: Timestamp) {
        let loaded = self.find(needs, snapshot.event.definition.waitlist.max_skips > 0, now);
        assert!(snapshot.add(needs, loaded, now), "it is as old as what was read before");
    }

    /// Reads what else is needed, for an event that may skip or not.
    pub(crate) fn find(&self, needs: &Needs, is_by_size: bool, now: Timestamp) -> Loaded {
        let mut loaded = Loaded { is_by_size, ..Loaded::default() };
        for target in &needs.entries {
            let found = match target {
                Target::Id(id) => self.entries.get(id),
                Target::User(user) => {
                    let of_user = self.entries.values().filter(|entry| entry.user_id == *user);
                    of_user.max_by_key(|entry| (entry.waits(), entry.ticket))
                }
            };
            loaded.entries.extend(found.cloned());
        }
        let queue = self.queue();
        if let Some(units) = needs.entries_above {
            loaded
                .entries
                .extend(queue.iter().filter(|entry| entry.min_quantity > units).map(|entry| (*entry).clone()));
        }
        if let Some(units) = needs.queue {
            loaded.entries.extend(queue.iter().take(units as usize + 1).map(|entry| (*entry).clone()));
            for size in (1..=units).filter(|_| loaded.is_by_size) {
                let of_size = queue.iter().filter(|entry| entry.min_quantity == size).take((units / size) as usize);
                loaded.entries.extend(of_size.map(|entry| (*entry).clone()));
            }
        }
        if let Some(most) = needs.holds {
            let mut holds: Vec<_> = self.rows.values().filter(|row| row.state == State::Held).cloned().collect();
            holds.sort_by_key(|hold| (hold.expire_time, hold.id));
            holds.truncate(most as usize);
            loaded.holds = (holds, most);
        }
        let was_used = || self.changes.iter().any(|change| change.event().is_none());
        loaded.was_used = needs.history.then(was_used);
        loaded.totals = needs.totals.then(|| {
            let live = || self.rows.values().filter(|row| row.state.is_live());
            let count = |number: usize| u32::try_from(number).expect("few");
            Totals {
                reservations: count(live().count()),
                lapsed: count(live().filter(|row| row.has_lapsed(now)).count()),
                entries: count(queue.len()),
            }
        });
        loaded
    }

    /// The entries that wait, in order.
    pub(crate) fn queue(&self) -> Vec<&Entry> {
        let mut queue: Vec<_> = self.entries.values().filter(|entry| entry.waits()).collect();
        queue.sort_by_key(|entry| entry.ticket);
        queue
    }

    /// Whether free places fit an entry whose turn it is.
    fn is_unserved(&self) -> bool {
        let free = self.event.definition.capacity - self.event.counters.reserved();
        let fits = |entry: &&Entry| free > 0 && entry.min_quantity <= free;
        let queue = self.queue();
        let may_skip = queue.first().is_some_and(|first| first.skips < self.event.definition.waitlist.max_skips);
        // What is free when booking closes stays free.
        let is_open = self.event.state == EventState::Open && self.event.definition.booking_close_time().is_none();
        is_open && (queue.first().is_some_and(fits) || may_skip && queue.iter().any(fits))
    }

    /// Decides one command on a fresh read, writes what was decided, and promotes.
    pub(crate) fn carry_out(&mut self, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
        let mut snapshot = self.load(std::slice::from_ref(command));
        while let needs = snapshot.missing(command)
            && !needs.is_empty()
        {
            self.meet(&mut snapshot, &needs, now);
        }
        let mut decision = decide(&snapshot, command, now);
        if let Ok(Decision::Commit(commit)) = &mut decision {
            if !matches!(command.action, Action::Expire(_) | Action::Promote) {
                let told = (&commit.answer().request, &commit.answer().actor);
                assert_eq!(told, (&command.request, &command.caller.actor), "the answer is the caller's");
            }
            self.write(commit, now);
            let answer = self.changes.len() - 1;
            // With the whole queue known, and read again each time.
            loop {
                let mut snapshot = self.load(&[]);
                self.queue().into_iter().for_each(|entry| snapshot.queue.add(entry.clone()));
                let Some(promotion) = promote(&snapshot, now) else { break };
                self.write(&promotion, now);
                commit.promotes_to(promotion.counters);
            }
            self.changes[answer] = commit.answer().clone();
        }
        decision
    }

    /// Writes what was decided.
    pub(crate) fn write(&mut self, commit: &Commit, now: Timestamp) {
        if let Some(ends) = &commit.ends_all {
            self.end_all(ends);
        }
        assert!(commit.valid_until.is_none_or(|end| now < end), "decided on what is over");
        for change in &commit.changes {
            match &change.subject {
                Subject::Reservation(row) => _ = self.rows.insert(row.id, (**row).clone()),
                Subject::Event(record) => self.event = record.event.clone(),
                Subject::Entry(entry) => {
                    assert!(commit.entries.contains(entry), "{entry:?} is not written");
                    let is_new = change.kind == ChangeKind::WaitlistJoined;
                    assert!(!is_new || entry.ticket == change.version, "its place is that at which it joined");
                }
            }
            self.changes.push(change.clone());
        }
        for entry in &commit.entries {
            let offer = commit.changes.iter().find(|change| change.reservation().is_some_and(|it| it.id == entry.id));
            if let Some(offer) = offer {
                let told = (EntryState::Promoted, offer.version, offer.time);
                assert_eq!((entry.state, entry.version, entry.update_time), told, "promoted by its offer");
            }
            self.entries.insert(entry.id, entry.clone());
        }
        self.event.counters = commit.counters;
    }

    fn end_all(&mut self, ends: &EndAll) {
        let (mut version, now) = (ends.version, ends.time);
        let mut live: Vec<_> = self.rows.values_mut().filter(|row| row.state.is_live()).collect();
        live.sort_by_key(|row| row.id);
        for row in live {
            version += 1;
            row.state = if row.has_lapsed(now) { State::Expired } else { State::Cancelled };
            row.version = version;
            let subject = Subject::Reservation(Box::new(row.clone()));
            self.changes.push(ended(version, ChangeKind::ReservationCancelled, now, subject));
        }
        let mut queue: Vec<_> = self.entries.values_mut().filter(|entry| entry.waits()).collect();
        queue.sort_by_key(|entry| entry.ticket);
        for entry in queue {
            version += 1;
            entry.state = EntryState::Ended;
            entry.version = version;
            let subject = Subject::Entry(Box::new(entry.clone()));
            self.changes.push(ended(version, ChangeKind::WaitlistEnded, now, subject));
        }
    }

    /// What must be so at every moment.
    pub(crate) fn check(&self) {
        let sum = |state| self.rows.values().filter(|row| row.state == state).map(|row| row.quantity).sum::<u32>();
        let Counters { held, confirmed, version, waiting } = self.event.counters;
        assert_eq!((held, confirmed), (sum(State::Held), sum(State::Confirmed)), "counters equal rows");
        assert!(held + confirmed <= self.event.definition.capacity, "oversold");
        let versions: Vec<_> = self.changes.iter().map(|change| change.version).collect();
        assert_eq!(versions, (1..=version).collect::<Vec<_>>(), "every version is one change");
        for (id, row) in &self.rows {
            let live = |other: &&Reservation| other.user_id == row.user_id && other.state.is_live();
            assert!(self.rows.values().filter(live).count() <= 1, "{id}'s user is booked twice");
            assert!(row.quantity > 0, "{id} is empty");
            assert_eq!(row.state == State::Held, row.expire_time.is_some() && row.state.is_live(), "{id}");
        }
        let queue = self.queue();
        assert_eq!(waiting as usize, queue.len(), "the count of waiting entries");
        for entry in &queue {
            assert!(queue.iter().filter(|other| other.user_id == entry.user_id).count() == 1, "a user waits twice");
            let has = |row: &Reservation| row.user_id == entry.user_id && row.state.is_live();
            assert!(!self.rows.values().any(has), "{entry:?} waits for what its user has");
            assert!(entry.min_quantity <= self.event.definition.largest_reservation(), "{entry:?} waits in vain");
        }
        assert!(!self.is_unserved(), "free places fit a waiting entry: {self:#?}");
        for entry in self.entries.values() {
            let promotions = self.changes.iter().filter(|change| {
                change.kind == ChangeKind::WaitlistPromoted
                    && change.reservation().is_some_and(|row| row.id == entry.id)
            });
            let expected = usize::from(entry.state == EntryState::Promoted);
            assert_eq!(promotions.count(), expected, "promoted once, if at all: {entry:?}");
        }
    }
}

fn ended(version: i64, kind: ChangeKind, time: Timestamp, subject: Subject) -> Change {
    Change::new(version, kind, time, subject)
}
