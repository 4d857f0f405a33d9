//! A world of plain rows, on which decisions are carried out one by one.

use std::{collections::HashMap, time::Duration};

use super::at;
use crate::domain::{
    change::{Change, ChangeKind, Subject},
    command::{Command, Target},
    decide::{Commit, Decision, decide, promote},
    event::{Counters, Definition, Event, EventState, Limits},
    ids::{EventId, ReservationId},
    refusal::Refusal,
    reservation::{Reservation, State},
    snapshot::Snapshot,
    time::Timestamp,
    waitlist::{Entry, EntryState, Policy},
};

/// What a database would hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct World {
    pub(super) event: Event,
    pub(super) rows: HashMap<ReservationId, Reservation>,
    pub(super) entries: HashMap<ReservationId, Entry>,
    pub(super) changes: Vec<Change>,
}

impl World {
    pub(super) fn new(capacity: u32, waitlist: Policy) -> Self {
        let limits = Limits {
            max_quantity: 4,
            hold_ttl_default: Duration::from_micros(10),
            hold_ttl_max: Duration::from_micros(20),
            max_extensions: 2,
        };
        let event = Event {
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

    /// What the loader would read for these commands.
    pub(super) fn load(&self, commands: &[Command], now: Timestamp) -> Snapshot {
        let mut snapshot = Snapshot::new(self.event.clone());
        let mut holds: Vec<_> = self.rows.values().filter(|row| row.state == State::Held).collect();
        holds.sort_by_key(|hold| (hold.expire_time, hold.id));
        for hold in holds {
            snapshot.add_hold(hold.clone(), now);
        }
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
            let entry = match command.entry_target(&self.event) {
                Some(Target::Id(id)) => self.entries.get(&id),
                Some(Target::User(user)) => self
                    .entries
                    .values()
                    .filter(|entry| entry.user_id == user)
                    .max_by_key(|entry| (entry.waits(), entry.ticket)),
                None => None,
            };
            entry.into_iter().for_each(|entry| snapshot.line.add(entry.clone()));
            if let Some(capacity) = command.shrinks_to(&self.event) {
                let too_large = self.line().into_iter().filter(|entry| entry.min_quantity > capacity);
                too_large.for_each(|entry| snapshot.line.add(entry.clone()));
            }
        }
        snapshot
    }

    /// Who waits, in order.
    pub(super) fn line(&self) -> Vec<&Entry> {
        let mut line: Vec<_> = self.entries.values().filter(|entry| entry.waits()).collect();
        line.sort_by_key(|entry| entry.ticket);
        line
    }

    /// What the loader would read of the line, of which nothing has left yet.
    pub(super) fn load_line(&self, snapshot: &mut Snapshot, units: u32) {
        let line = self.line();
        let head = line.iter().take(units as usize + 1);
        let of_each_size = (1..=units).flat_map(|size| {
            let of_size = line.iter().filter(move |entry| entry.min_quantity == size);
            of_size.take((units / size) as usize)
        });
        let loaded: Vec<Entry> = head.chain(of_each_size).map(|entry| (*entry).clone()).collect();
        loaded.into_iter().for_each(|entry| snapshot.line.add(entry));
        snapshot.line.is_loaded_for(units);
    }

    /// Whether places are free that fit somebody whose turn it is.
    fn is_unserved(&self) -> bool {
        let free = self.event.definition.capacity - self.event.counters.reserved();
        let fits = |entry: &&Entry| free > 0 && entry.min_quantity <= free;
        let line = self.line();
        let may_skip = line.first().is_some_and(|first| first.skips < self.event.definition.waitlist.max_skips);
        self.event.state == EventState::Open && (line.first().is_some_and(fits) || may_skip && line.iter().any(fits))
    }

    /// Decides one command on a fresh load, writes what was decided, and serves who waits.
    pub(super) fn carry_out(&mut self, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
        let decision = decide(&self.load(std::slice::from_ref(command), now), command, now);
        if let Ok(Decision::Commit(commit)) = &decision {
            let mut commit = commit.clone();
            if commit.ends_all {
                let (ended, entries) = self.end_all(now);
                commit.follow_ended(ended, ended, entries);
            }
            self.write(&commit, now);
            // With the whole line known, and read anew each time.
            loop {
                let mut snapshot = self.load(&[], now);
                self.line().into_iter().for_each(|entry| snapshot.line.add(entry.clone()));
                let Some(promotion) = promote(&snapshot, now) else { break };
                self.write(&promotion, now);
            }
        }
        decision
    }

    fn write(&mut self, commit: &Commit, now: Timestamp) {
        assert!(commit.valid_until.is_none_or(|end| now < end), "decided on what is over");
        for change in &commit.changes {
            match &change.subject {
                Subject::Reservation(row) => _ = self.rows.insert(row.id, (**row).clone()),
                Subject::Event(record) => self.event = record.event.clone(),
                Subject::Entry(entry) => assert!(commit.entries.contains(entry), "{entry:?} is not written"),
            }
            self.changes.push(change.clone());
        }
        commit.entries.iter().for_each(|entry| _ = self.entries.insert(entry.id, entry.clone()));
        self.event.counters = commit.counters;
    }

    fn end_all(&mut self, now: Timestamp) -> (u32, u32) {
        let mut version = self.event.counters.version;
        let mut live: Vec<_> = self.rows.values_mut().filter(|row| row.state.is_live()).collect();
        live.sort_by_key(|row| row.id);
        for row in &mut live {
            version += 1;
            row.state = if row.has_lapsed(now) { State::Expired } else { State::Cancelled };
            row.version = version;
            self.changes.push(Change {
                version,
                kind: ChangeKind::Cancelled,
                time: now,
                request: None,
                actor: None,
                subject: Subject::Reservation(Box::new(row.clone())),
            });
        }
        let ended = u32::try_from(live.len()).expect("few");
        let mut line: Vec<_> = self.entries.values_mut().filter(|entry| entry.waits()).collect();
        line.sort_by_key(|entry| entry.ticket);
        for entry in &mut line {
            version += 1;
            entry.state = EntryState::Ended;
            entry.version = version;
            self.changes.push(Change {
                version,
                kind: ChangeKind::WaitlistEnded,
                time: now,
                request: None,
                actor: None,
                subject: Subject::Entry(Box::new(entry.clone())),
            });
        }
        (ended, u32::try_from(line.len()).expect("few"))
    }

    /// What must be so at every moment.
    pub(super) fn check(&self) {
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
        let line = self.line();
        assert_eq!(waiting as usize, line.len(), "the count of who waits");
        for entry in &line {
            assert!(line.iter().filter(|other| other.user_id == entry.user_id).count() == 1, "a user waits twice");
            let has = |row: &Reservation| row.user_id == entry.user_id && row.state.is_live();
            assert!(!self.rows.values().any(has), "{entry:?} waits for what its user has");
            assert!(entry.min_quantity <= self.event.definition.capacity, "{entry:?} waits in vain");
        }
        assert!(!self.is_unserved(), "places are free, and somebody waits whom they fit: {self:#?}");
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
