//! Reservations and the states of their life:
//!
//! ```text
//!            Reserve                    Confirm
//!   (none) ----------> HELD -------------------------> CONFIRMED
//!      \                | \  Extend, Amend (stay)       |  Amend (stays)
//!       \  confirm: true|  \                            |
//!        \------------> |   \ lapse --> EXPIRED         | Cancel
//!          CONFIRMED    +--- Cancel --> CANCELLED <-----+
//! ```
//!
//! CANCELLED and EXPIRED are final; their rows stay as records.

use super::{
    ids::{EventId, ReservationId, UserId},
    limits::Labels,
    time::Timestamp,
};

/// Where a reservation stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Units are held until the expire time.
    Held,
    /// Units are taken for good.
    Confirmed,
    /// Given up. Final.
    Cancelled,
    /// A hold that lapsed. Final.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Held, Self::Confirmed, Self::Cancelled, Self::Expired];

    /// The name that the database and the error details use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether the reservation holds units or has taken them.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Held | Self::Confirmed)
    }
}

/// What a reservation adds to its event's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Units held.
    pub held: u32,
    /// Units confirmed.
    pub confirmed: u32,
}

/// A user's reservation of units of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its name within the event.
    pub id: ReservationId,
    /// The event.
    pub event_id: EventId,
    /// Whose it is.
    pub user_id: UserId,
    /// How many units; for an ended one, how many it last had.
    pub quantity: u32,
    /// Where it stands.
    pub state: State,
    /// Held: when it lapses. Expired: when it did. Otherwise none.
    pub expire_time: Option<Timestamp>,
    /// When it was confirmed.
    pub confirm_time: Option<Timestamp>,
    /// How often its hold was extended.
    pub extensions: u32,
    /// Why it was cancelled, in whole or in part.
    pub cancel_reason: Option<String>,
    /// The client's own data.
    pub labels: Labels,
    /// The event version that its last change made.
    pub version: i64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
}

impl Reservation {
    /// A confirmed reservation that is made at `now`. Its version comes with the change that creates it.
    pub fn new(id: ReservationId, event_id: EventId, user_id: UserId, quantity: u32, now: Timestamp) -> Self {
        Self {
            id,
            event_id,
            user_id,
            quantity,
            state: State::Confirmed,
            expire_time: None,
            confirm_time: Some(now),
            extensions: 0,
            cancel_reason: None,
            labels: Labels::default(),
            version: 0,
            create_time: now,
            update_time: now,
        }
    }

    /// The same as a hold.
    #[must_use]
    pub fn held_until(self, expire_time: Timestamp) -> Self {
        Self { state: State::Held, expire_time: Some(expire_time), confirm_time: None, ..self }
    }

    /// Names this version of the reservation.
    pub fn etag(&self) -> String {
        format!("r{}", self.version)
    }

    /// What it adds to its event's counters.
    pub const fn weight(&self) -> Weight {
        match self.state {
            State::Held => Weight { held: self.quantity, confirmed: 0 },
            State::Confirmed => Weight { held: 0, confirmed: self.quantity },
            State::Cancelled | State::Expired => Weight { held: 0, confirmed: 0 },
        }
    }

    /// Whether it is a hold whose time is over at `now`, released or not. A hold is good until just
    /// before its expire time and lapsed from that very moment on.
    pub fn has_lapsed(&self, now: Timestamp) -> bool {
        self.state == State::Held && self.expire_time.is_some_and(|end| end <= now)
    }
}
