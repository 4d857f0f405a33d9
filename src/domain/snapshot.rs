//! What a decision needs to see of one event, and how it looks after a decision.

use std::collections::{HashMap, VecDeque};

use super::{
    change::{Change, Subject},
    command::Target,
    decide::Commit,
    event::Event,
    ids::{RequestId, ReservationId, UserId},
    reservation::Reservation,
    time::Timestamp,
    waitlist::Line,
};

/// One event with the reservations and idempotency records that some commands concern.
///
/// [`Snapshot::advance`] turns it into what a reload would show after a decision was committed, so
/// that several commands can be decided one after the other from one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The event.
    pub event: Event,
    reservations: HashMap<ReservationId, Reservation>,
    /// Each known user's live reservation, or else the newest that ended.
    of_user: HashMap<UserId, ReservationId>,
    records: HashMap<RequestId, Change>,
    /// Holds past their time that are still in the books, in expiry order.
    lapsed: VecDeque<ReservationId>,
    /// When the next hold lapses that has not yet.
    pub next_hold_expiry: Option<Timestamp>,
    /// Who waits, as far as it is known.
    pub line: Line,
}

impl Snapshot {
    /// The event alone.
    pub fn new(event: Event) -> Self {
        Self {
            event,
            reservations: HashMap::new(),
            of_user: HashMap::new(),
            records: HashMap::new(),
            lapsed: VecDeque::new(),
            next_hold_expiry: None,
            line: Line::default(),
        }
    }

    /// Adds a reservation that a command concerns. Of several reservations of one user the live one,
    /// else the newest, is the one that the user's name stands for.
    pub fn add_reservation(&mut self, reservation: Reservation) {
        let rank = |r: &Reservation| (r.state.is_live(), r.id);
        let known = self.of_user.get(&reservation.user_id).and_then(|id| self.reservations.get(id));
        if known.is_none_or(|known| rank(known) <= rank(&reservation)) {
            self.of_user.insert(reservation.user_id.clone(), reservation.id);
        }
        self.reservations.insert(reservation.id, reservation);
    }

    /// Adds a hold that is past its time at `now`, or one that tells when the next one will be. To be
    /// called in expiry order.
    pub fn add_hold(&mut self, hold: Reservation, now: Timestamp) {
        if hold.has_lapsed(now) {
            self.lapsed.push_back(hold.id);
            self.add_reservation(hold);
        } else if self.next_hold_expiry.is_none() {
            self.next_hold_expiry = hold.expire_time;
        }
    }

    /// Adds the change that a request_id stands for.
    pub fn add_record(&mut self, change: Change) {
        if let Some(request) = &change.request {
            self.records.insert(request.id.clone(), change);
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

    /// Becomes what a reload would show after `commit`.
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
        commit.entries.iter().for_each(|entry| self.line.advance(entry.clone()));
        self.event.counters = commit.counters;
    }
}
