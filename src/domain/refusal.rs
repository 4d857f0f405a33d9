//! Refusals: a business "no", as data. It is never retried.

use std::time::Duration;

use super::{
    change::Change,
    event::EventState,
    ids::{EventId, ReservationId},
    reservation::State,
    time::Timestamp,
    waitlist::EntryState,
};

/// Why a command was not carried out. It had no effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// There is no such event.
    EventNotFound,
    /// The event has no such reservation.
    ReservationNotFound,
    /// An event of this id exists already.
    EventExists(Vec<EventId>),
    /// The user has a live reservation for the event: this one, unless only the database's unique constraint reported
    /// it.
    AlreadyReserved(Option<ReservationId>),
    /// Fewer units are free than were asked for.
    SoldOut {
        /// Units asked for beyond what the caller has.
        asked: u32,
        /// Units free.
        available: u32,
        /// When the next hold lapses.
        next_hold_expiry: Option<Timestamp>,
    },
    /// The event takes no reservations now.
    EventNotOpen {
        /// Its state.
        state: EventState,
        /// When booking opens, if that is still to come.
        opens: Option<Timestamp>,
        /// When booking closed, if it did.
        closed: Option<Timestamp>,
    },
    /// The event is not in a state from which this can be done.
    EventState(EventState),
    /// The event has, or may once have had, reservations or waitlist entries.
    EventUsed,
    /// The hold's time is over.
    HoldExpired(Timestamp),
    /// The reservation has ended.
    NotLive(State),
    /// The reservation is confirmed already, where a hold is needed.
    NotHeld,
    /// The user has as many live holds across events as the settings allow.
    HoldLimit(u32),
    /// More units than the event's limit allows, or than the reservation has.
    QuantityLimit {
        /// Units asked for.
        asked: u32,
        /// Units allowed.
        limit: u32,
    },
    /// A hold longer than the event allows.
    TtlLimit {
        /// The request's field.
        field: &'static str,
        /// The longest that is allowed.
        limit: Duration,
    },
    /// The hold was extended as often as the event allows.
    ExtensionLimit(u32),
    /// The event's capacity can't shrink below what is reserved.
    CapacityBelowReserved {
        /// Capacity asked for.
        capacity: u32,
        /// Units in live reservations.
        reserved: u32,
    },
    /// The update would make fields of the event contradict each other.
    Inconsistent(Vec<(&'static str, &'static str)>),
    /// The subject has changed since the caller saw it.
    EtagMismatch {
        /// The subject's etag now.
        current: String,
    },
    /// The event has changed since the caller saw it.
    EventVersionMismatch {
        /// The event's version now.
        current: i64,
    },
    /// The request_id stands for another payload.
    RequestIdReused(Box<FirstUse>),
    /// Others wait for the event, and newcomers may not overtake them.
    WaitlistAhead {
        /// Units asked for beyond what the caller has.
        asked: u32,
        /// Entries that wait.
        waiting: u32,
    },
    /// The event's waitlist takes no new entries.
    WaitlistClosed,
    /// The waitlist is full.
    WaitlistFull {
        /// The most entries that may wait.
        limit: u32,
    },
    /// The user waits for the event already: in this entry, unless only the database's unique index reported it.
    AlreadyWaiting(Option<ReservationId>),
    /// No entry waits and enough units are free, so there is nothing to wait for.
    NotSoldOut {
        /// Units asked for.
        asked: u32,
        /// Units free.
        available: u32,
    },
    /// The event has no such waitlist entry.
    EntryNotFound,
    /// The waitlist entry waits no longer.
    NotWaiting(EntryState),
    /// Changes after the version asked for are no longer kept.
    HistoryForgotten {
        /// The oldest version that is.
        oldest: i64,
    },
    /// The event has not reached the version asked for.
    VersionAhead {
        /// The version that it has reached.
        version: i64,
    },
}

/// What a request_id was first used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstUse {
    /// The RPC that made the change.
    pub rpc: Option<&'static str>,
    /// When.
    pub time: Timestamp,
    /// The reservation that it changed, where the caller may know.
    pub reservation_id: Option<ReservationId>,
    /// The waitlist entry that it changed, where the caller may know.
    pub entry_id: Option<ReservationId>,
}

impl FirstUse {
    /// What made `change`, with the id of its subject if the caller `may_see` it.
    pub fn of(change: &Change, may_see: bool) -> Self {
        Self {
            rpc: change.rpc(),
            time: change.time,
            reservation_id: change.reservation().filter(|_| may_see).map(|it| it.id),
            entry_id: change.entry().filter(|_| may_see).map(|it| it.id),
        }
    }
}

impl Refusal {
    /// The reason, as clients see it in `ErrorInfo`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::EventNotFound => "EVENT_NOT_FOUND",
            Self::ReservationNotFound => "RESERVATION_NOT_FOUND",
            Self::EventExists(_) => "EVENT_EXISTS",
            Self::AlreadyReserved(_) => "ALREADY_RESERVED",
            Self::SoldOut { .. } => "SOLD_OUT",
            Self::EventNotOpen { .. } => "EVENT_NOT_OPEN",
            Self::EventState(_) => "EVENT_STATE_CONFLICT",
            Self::EventUsed => "EVENT_USED",
            Self::HoldExpired(_) => "HOLD_EXPIRED",
            Self::NotLive(_) => "NOT_LIVE",
            Self::NotHeld => "NOT_HELD",
            Self::HoldLimit(_) => "HOLD_LIMIT",
            Self::QuantityLimit { .. } => "QUANTITY_LIMIT",
            Self::ExtensionLimit(_) => "EXTENSION_LIMIT",
            Self::CapacityBelowReserved { .. } => "CAPACITY_BELOW_RESERVED",
            Self::TtlLimit { .. } => "HOLD_TTL_LIMIT",
            Self::Inconsistent(_) => "DEFINITION_CONFLICT",
            Self::VersionAhead { .. } => "WATCH_AHEAD",
            Self::EtagMismatch { .. } => "ETAG_MISMATCH",
            Self::EventVersionMismatch { .. } => "EVENT_VERSION_MISMATCH",
            Self::RequestIdReused(_) => "REQUEST_ID_REUSED",
            Self::WaitlistAhead { .. } => "WAITLIST_AHEAD",
            Self::WaitlistClosed => "WAITLIST_CLOSED",
            Self::WaitlistFull { .. } => "WAITLIST_FULL",
            Self::AlreadyWaiting(_) => "ALREADY_WAITING",
            Self::NotSoldOut { .. } => "NOT_SOLD_OUT",
            Self::EntryNotFound => "WAITLIST_ENTRY_NOT_FOUND",
            Self::NotWaiting(_) => "NOT_WAITING",
            Self::HistoryForgotten { .. } => "WATCH_TOO_OLD",
        }
    }

    /// Whether the refusal rests on the clock having passed a moment that no change has recorded yet. Without the row
    /// lock, another command that was accepted just in time may still be committed after such a refusal. So the refusal
    /// is final only under the lock.
    pub const fn rests_on_the_clock(&self) -> bool {
        matches!(self, Self::HoldExpired(_) | Self::EventNotOpen { state: EventState::Open, closed: Some(_), .. })
    }
}
