//! Changes: the unit of history, of the feed and of idempotency.

use serde::{Deserialize, Serialize};

use super::{
    caller::Actor,
    event::Event,
    ids::{EventId, Request},
    reservation::Reservation,
    time::Timestamp,
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it, and `name` spells them")]
pub enum ChangeKind {
    EventCreated,
    EventUpdated,
    EventOpened,
    EventClosed,
    EventCancelled,
    Held,
    Confirmed,
    Extended,
    Amended,
    /// Some units were given up; the reservation lives on.
    Reduced,
    Cancelled,
    Expired,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::EventCreated,
        Self::EventUpdated,
        Self::EventOpened,
        Self::EventClosed,
        Self::EventCancelled,
        Self::Held,
        Self::Confirmed,
        Self::Extended,
        Self::Amended,
        Self::Reduced,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name that the database and the metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EventCreated => "EVENT_CREATED",
            Self::EventUpdated => "EVENT_UPDATED",
            Self::EventOpened => "EVENT_OPENED",
            Self::EventClosed => "EVENT_CLOSED",
            Self::EventCancelled => "EVENT_CANCELLED",
            Self::Held => "HELD",
            Self::Confirmed => "CONFIRMED",
            Self::Extended => "EXTENDED",
            Self::Amended => "AMENDED",
            Self::Reduced => "REDUCED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// One transition of one reservation or event. With a request it is also the record from which a
/// repetition of that request is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The event version that it makes.
    pub version: i64,
    /// What happened.
    pub kind: ChangeKind,
    /// When, by PostgreSQL's clock.
    pub time: Timestamp,
    /// The request that asked for it.
    pub request: Option<Request>,
    /// Who asked for it. None: the ledger did it by itself, or did not ask who it was.
    pub actor: Option<Actor>,
    /// What it happened to, as it is afterwards.
    pub subject: Subject,
}

/// What a change happened to, as it is afterwards.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A reservation.
    Reservation(Box<Reservation>),
    /// The event itself.
    Event(Box<EventRecord>),
}

/// An event after a change of the event itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The event.
    pub event: Event,
    /// How many live reservations were cancelled with it.
    #[serde(default)]
    pub cancelled_reservations: u32,
}

impl Change {
    /// The event that it belongs to.
    pub fn event_id(&self) -> &EventId {
        match &self.subject {
            Subject::Reservation(reservation) => &reservation.event_id,
            Subject::Event(record) => &record.event.id,
        }
    }

    /// The reservation after it, if it is a change of one.
    pub fn reservation(&self) -> Option<&Reservation> {
        match &self.subject {
            Subject::Reservation(reservation) => Some(reservation),
            Subject::Event(_) => None,
        }
    }

    /// The event after it, if it is a change of the event itself.
    pub fn event(&self) -> Option<&EventRecord> {
        match &self.subject {
            Subject::Reservation(_) => None,
            Subject::Event(record) => Some(record),
        }
    }
}
