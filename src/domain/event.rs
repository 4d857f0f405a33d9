//! Events: what can be reserved, and how much of it is taken.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    booking_close::BookingClose,
    ids::{EventId, SeriesId, VenueId},
    limits::{self, Labels},
    reservation::Weight,
    time::Timestamp,
    waitlist::Policy,
};

/// Whether an event takes reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventState {
    /// Units can be reserved, within the booking times.
    Open,
    /// Nothing new can be reserved.
    Closed,
    /// Called off. Final.
    Cancelled,
    /// Made by mistake, and gone: its row stays, so that an event of the same id continues its versions.
    Deleted,
}

impl EventState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Open, Self::Closed, Self::Cancelled, Self::Deleted];

    /// Whether no change of the event follows; but after a deletion an event of the same id may be created.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Deleted)
    }

    /// The name that the database and the error details use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
            Self::Cancelled => "CANCELLED",
            Self::Deleted => "DELETED",
        }
    }
}

/// What one reservation of an event may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most units that one reservation may hold.
    pub max_quantity: u32,
    /// How long a hold lasts when Reserve does not say, where the client has set it.
    pub hold_ttl_default: Option<Duration>,
    /// The longest that Reserve or one Extend may ask for, where the client has set it; not below the default.
    pub hold_ttl_max: Option<Duration>,
    /// How often one hold may be extended.
    pub max_extensions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_quantity: *limits::QUANTITY.end(), hold_ttl_default: None, hold_ttl_max: None, max_extensions: 3 }
    }
}

/// Where only one of the two times is set, the other gives way to it: a maximum of a minute means holds of a minute, and
/// a default of two hours a maximum of two hours. So it does whichever is set first, and whenever it is changed.
impl Limits {
    /// How long a hold lasts when Reserve does not say.
    pub fn hold_ttl_default(&self) -> Duration {
        self.hold_ttl_default.unwrap_or_else(|| limits::DEFAULT_HOLD_TTL.min(self.hold_ttl_max()))
    }

    /// The longest that Reserve or one Extend may ask for.
    pub fn hold_ttl_max(&self) -> Duration {
        let default = self.hold_ttl_default.unwrap_or_default();
        self.hold_ttl_max.unwrap_or_else(|| limits::DEFAULT_HOLD_TTL_MAX.max(default))
    }
}

/// What a client says about an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// A name for people.
    pub display_name: String,
    /// Groups events.
    pub series_id: Option<SeriesId>,
    /// The series' name for people; may be empty.
    pub series_display_name: String,
    /// Where it takes place.
    pub venue_id: Option<VenueId>,
    /// The venue's name for people; may be empty.
    pub venue_display_name: String,
    /// When it begins.
    pub start_time: Option<Timestamp>,
    /// When it ends; not before it begins.
    pub end_time: Option<Timestamp>,
    /// Before this moment nothing can be reserved.
    pub booking_open_time: Option<Timestamp>,
    /// From when on nothing can be reserved; later than the opening.
    pub booking_close: BookingClose,
    /// The client's own data.
    pub labels: Labels,
    /// What one reservation may do.
    pub limits: Limits,
    /// Units in all.
    pub capacity: u32,
    /// How its waitlist works.
    #[serde(default)]
    pub waitlist: Policy,
}

impl Definition {
    /// From this moment on nothing can be reserved.
    pub fn booking_close_time(&self) -> Option<Timestamp> {
        self.booking_close.time(self.start_time, self.end_time)
    }

    /// The most units that one reservation can have.
    pub fn largest_reservation(&self) -> u32 {
        self.capacity.min(self.limits.max_quantity)
    }
}

/// What changes with every reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Units in holds, lapsed ones included until they are released.
    pub held: u32,
    /// Units in confirmed reservations.
    pub confirmed: u32,
    /// Counts the event's changes.
    pub version: i64,
    /// Waitlist entries that wait.
    #[serde(default)]
    pub waiting: u32,
}

impl Counters {
    /// Units in live reservations.
    pub const fn reserved(self) -> u32 {
        self.held + self.confirmed
    }

    /// Moves from the weight of a reservation before a change to its weight after.
    pub(crate) fn shift(&mut self, before: Weight, after: Weight) {
        self.held = self.held - before.held + after.held;
        self.confirmed = self.confirmed - before.confirmed + after.confirmed;
    }
}

/// One bookable unit with a capacity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// What the client says about it.
    pub definition: Definition,
    /// Whether it takes reservations.
    pub state: EventState,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// What changes with every reservation.
    pub counters: Counters,
    /// The version of the last change of its definition or state.
    pub definition_version: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When the event itself last changed.
    pub update_time: Timestamp,
}

impl Event {
    /// Names the version of its definition and state. Reservations do not change it.
    pub fn etag(&self) -> String {
        format!("e{}", self.definition_version)
    }

    /// Units that are in no live reservation.
    pub const fn available(&self) -> u32 {
        self.definition.capacity.saturating_sub(self.counters.reserved())
    }

    /// Whether free units may go to those who wait, if there are any.
    pub fn may_promote(&self, now: Timestamp) -> bool {
        self.counters.waiting > 0 && self.available() > 0 && self.is_open(now)
    }

    /// Whether it is open, and booking has not begun at `now`.
    pub fn is_before_booking(&self, now: Timestamp) -> bool {
        self.state == EventState::Open && self.definition.booking_open_time.is_some_and(|opens| now < opens)
    }

    /// Whether units can be reserved at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.state == EventState::Open
            && self.definition.booking_open_time.is_none_or(|opens| opens <= now)
            && self.definition.booking_close_time().is_none_or(|closes| now < closes)
    }
}
