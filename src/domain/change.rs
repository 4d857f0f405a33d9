//! Changes: the unit of history, of the feed and of idempotency.

use serde::{Deserialize, Serialize};

use super::{
    caller::Actor,
    event::{Counters, Event},
    ids::{EventId, Request, UserId},
    limits::Labels,
    reservation::Reservation,
    time::Timestamp,
    waitlist::Entry,
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
    /// The event was deleted: it never had a reservation or an entry. A creation of the same id continues its versions.
    EventDeleted,
    ReservationHeld,
    ReservationConfirmed,
    ReservationExtended,
    ReservationAmended,
    /// Some units were given up; the reservation stays live.
    ReservationReduced,
    ReservationCancelled,
    ReservationExpired,
    /// A user joined the waitlist.
    WaitlistJoined,
    /// An entry was promoted: it became a reservation, HELD.
    WaitlistPromoted,
    /// A party that waits became smaller.
    WaitlistAmended,
    /// The user left the waitlist, or reserved as a newcomer.
    WaitlistLeft,
    /// The event was cancelled, or made too small for the party.
    WaitlistEnded,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::EventCreated,
        Self::EventUpdated,
        Self::EventOpened,
        Self::EventClosed,
        Self::EventCancelled,
        Self::EventDeleted,
        Self::ReservationHeld,
        Self::ReservationConfirmed,
        Self::ReservationExtended,
        Self::ReservationAmended,
        Self::ReservationReduced,
        Self::ReservationCancelled,
        Self::ReservationExpired,
        Self::WaitlistJoined,
        Self::WaitlistPromoted,
        Self::WaitlistAmended,
        Self::WaitlistLeft,
        Self::WaitlistEnded,
    ];

    /// The name that the database and the metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EventCreated => "EVENT_CREATED",
            Self::EventUpdated => "EVENT_UPDATED",
            Self::EventOpened => "EVENT_OPENED",
            Self::EventClosed => "EVENT_CLOSED",
            Self::EventCancelled => "EVENT_CANCELLED",
            Self::EventDeleted => "EVENT_DELETED",
            Self::ReservationHeld => "RESERVATION_HELD",
            Self::ReservationConfirmed => "RESERVATION_CONFIRMED",
            Self::ReservationExtended => "RESERVATION_EXTENDED",
            Self::ReservationAmended => "RESERVATION_AMENDED",
            Self::ReservationReduced => "RESERVATION_REDUCED",
            Self::ReservationCancelled => "RESERVATION_CANCELLED",
            Self::ReservationExpired => "RESERVATION_EXPIRED",
            Self::WaitlistJoined => "WAITLIST_JOINED",
            Self::WaitlistPromoted => "WAITLIST_PROMOTED",
            Self::WaitlistAmended => "WAITLIST_AMENDED",
            Self::WaitlistLeft => "WAITLIST_LEFT",
            Self::WaitlistEnded => "WAITLIST_ENDED",
        }
    }
}

/// One transition of one reservation, waitlist entry or event. With a request it is also the record from which a
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
    /// The caller that asked for it. None: the ledger did it by itself, or authentication is off.
    pub actor: Option<Actor>,
    /// Why, where the caller has to say it.
    pub reason: Option<String>,
    /// The event's counters after the promotions that the command caused, which are written with it. None: it caused
    /// none.
    pub after_promotions: Option<Counters>,
    /// The subject of the change, as it is afterwards.
    pub subject: Subject,
}

/// The subject of a change, as it is afterwards.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A reservation.
    Reservation(Box<Reservation>),
    /// An entry of the waitlist.
    Entry(Box<Entry>),
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
    /// How many waitlist entries were ended with it.
    #[serde(default)]
    pub ended_entries: u32,
}

impl Change {
    /// A change that no caller asked for.
    pub const fn new(version: i64, kind: ChangeKind, time: Timestamp, subject: Subject) -> Self {
        Self { version, kind, time, request: None, actor: None, reason: None, after_promotions: None, subject }
    }

    /// The event's version after all that the command did: the change, and the promotions that it caused.
    pub fn final_version(&self) -> i64 {
        self.after_promotions.map_or(self.version, |counters| counters.version)
    }

    /// The event that it belongs to.
    pub fn event_id(&self) -> &EventId {
        match &self.subject {
            Subject::Reservation(reservation) => &reservation.event_id,
            Subject::Entry(entry) => &entry.event_id,
            Subject::Event(record) => &record.event.id,
        }
    }

    /// The RPC that makes such a change. None: only the ledger makes it.
    pub fn rpc(&self) -> Option<&'static str> {
        Some(match self.kind {
            ChangeKind::EventCreated => "CreateEvent",
            ChangeKind::EventUpdated => "UpdateEvent",
            ChangeKind::EventOpened => "OpenEvent",
            ChangeKind::EventClosed => "CloseEvent",
            ChangeKind::EventCancelled => "CancelEvent",
            ChangeKind::EventDeleted => "DeleteEvent",
            ChangeKind::ReservationHeld => "Reserve",
            // Reserve confirms at once what it makes. A Confirm comes later.
            ChangeKind::ReservationConfirmed if self.reservation().is_some_and(|it| it.create_time == self.time) => {
                "Reserve"
            }
            ChangeKind::ReservationConfirmed => "Confirm",
            ChangeKind::ReservationExtended => "Extend",
            ChangeKind::ReservationAmended => "Amend",
            ChangeKind::ReservationReduced | ChangeKind::ReservationCancelled => "Cancel",
            ChangeKind::WaitlistJoined => "JoinWaitlist",
            ChangeKind::WaitlistLeft => "LeaveWaitlist",
            ChangeKind::WaitlistAmended => "AmendWaitlistEntry",
            ChangeKind::WaitlistPromoted if self.request.is_some() => "PromoteWaitlistEntry",
            ChangeKind::ReservationExpired | ChangeKind::WaitlistPromoted | ChangeKind::WaitlistEnded => return None,
        })
    }

    /// The user whose reservation or waitlist entry it changes.
    pub fn user(&self) -> Option<&UserId> {
        match &self.subject {
            Subject::Reservation(reservation) => Some(&reservation.user_id),
            Subject::Entry(entry) => Some(&entry.user_id),
            Subject::Event(_) => None,
        }
    }

    /// The reservation after it, if it is a change of one.
    pub fn reservation(&self) -> Option<&Reservation> {
        match &self.subject {
            Subject::Reservation(reservation) => Some(reservation),
            Subject::Entry(_) | Subject::Event(_) => None,
        }
    }

    /// The waitlist entry after it, if it is a change of one.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.subject {
            Subject::Entry(entry) => Some(entry),
            Subject::Reservation(_) | Subject::Event(_) => None,
        }
    }

    /// About how many bytes it takes, in memory as well as in a message.
    pub fn footprint(&self) -> usize {
        const FIXED_PART: usize = 160;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let labels = |labels: &Labels| labels.0.iter().map(|(key, value)| key.len() + value.len() + 6).sum::<usize>();
        let request = self.request.as_ref().map_or(0, |request| request.id.as_str().len());
        FIXED_PART
            + 2 * self.event_id().as_str().len()
            + request
            + text(&self.reason)
            + match &self.subject {
                Subject::Reservation(it) => it.user_id.as_str().len() + text(&it.cancel_reason) + labels(&it.labels),
                Subject::Entry(it) => it.user_id.as_str().len() + labels(&it.labels),
                Subject::Event(record) => {
                    let (event, definition) = (&record.event, &record.event.definition);
                    definition.display_name.len()
                        + definition.series_id.as_ref().map_or(0, |id| id.as_str().len())
                        + definition.venue_id.as_ref().map_or(0, |id| id.as_str().len())
                        + definition.series_display_name.len()
                        + definition.venue_display_name.len()
                        + text(&event.cancel_reason)
                        + labels(&definition.labels)
                }
            }
    }

    /// The record of the event after it, if it is a change of the event itself.
    pub fn event(&self) -> Option<&EventRecord> {
        match &self.subject {
            Subject::Reservation(_) | Subject::Entry(_) => None,
            Subject::Event(record) => Some(record),
        }
    }
}
