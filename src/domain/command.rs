//! Commands: what a caller asks for. The answer to a command is one change.

use std::time::Duration;

use super::{
    caller::Caller,
    event::{Definition, Event},
    ids::{EventId, Request, ReservationId, Target, UserId},
    limits::Labels,
    needs::Needs,
};

/// A request to change one event, or one of its reservations or waitlist entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The event, which is also the shard key.
    pub event_id: EventId,
    /// What to do.
    pub action: Action,
    /// Act only if the subject still has this etag. The subject is the event for the event's own actions, and the
    /// reservation or entry for the others; [`Action::Reserve`] and [`Action::Join`], which have none, have no etag.
    pub etag: Option<String>,
    /// Act only if the event still has this version.
    pub expected_event_version: Option<i64>,
    /// Makes the command safe to repeat.
    pub request: Option<Request>,
    /// The caller.
    pub caller: Caller,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Set units aside, or take them.
    Reserve(Reserve),
    /// Take the units of a hold for good: all, or this many and release the rest.
    Confirm {
        /// The hold.
        target: Target,
        /// How many; all if none.
        quantity: Option<u32>,
    },
    /// Give up all units of a reservation, or this many.
    Cancel {
        /// The reservation.
        target: Target,
        /// How many; all if none.
        quantity: Option<u32>,
        /// Why.
        reason: Option<String>,
    },
    /// Give a hold more time from now on.
    Extend {
        /// The hold.
        target: Target,
        /// How long from now; the event's default if none.
        ttl: Option<Duration>,
    },
    /// Change a live reservation's units or labels.
    Amend {
        /// The reservation.
        target: Target,
        /// The new number of units; unchanged if none.
        quantity: Option<u32>,
        /// The new labels, in place of the old; unchanged if none.
        labels: Option<Labels>,
    },
    /// Release a hold whose time is over. The expiry worker's command.
    Expire(ReservationId),
    /// Offer free units to the head of the waitlist. The promotion worker's command: all others promote by
    /// themselves.
    Promote,
    /// Wait for units.
    Join(Join),
    /// Leave the waitlist.
    Leave {
        /// The entry.
        target: Target,
    },
    /// Make a party that waits smaller. It keeps its place.
    AmendEntry {
        /// The entry.
        target: Target,
        /// How many units it wants now; as many as before if none.
        quantity: Option<u32>,
        /// The fewest that would do; as before, or all that it wants now, if none.
        min_quantity: Option<u32>,
    },
    /// Offer free units to this entry, also where others are ahead of it.
    PromoteEntry {
        /// The entry.
        target: Target,
        /// Why it comes first.
        reason: String,
    },
    /// Change what is said about the event.
    UpdateEvent(Box<EventUpdate>),
    /// Take reservations again.
    OpenEvent,
    /// Take no more reservations.
    CloseEvent,
    /// Call the event off, and end all its live reservations with it.
    CancelEvent {
        /// Why.
        reason: Option<String>,
    },
    /// Remove an event that never had a reservation or an entry.
    DeleteEvent,
}

/// Set units aside, or take them.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserve {
    /// The id that the new reservation gets.
    pub id: ReservationId,
    /// Whose it is.
    pub user_id: UserId,
    /// How many units.
    pub quantity: u32,
    /// A hold or a confirmed reservation.
    pub mode: ReserveMode,
    /// The client's own data.
    pub labels: Labels,
}

/// Wait for units.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The id that the entry gets, and the reservation that it becomes.
    pub id: ReservationId,
    /// The user who joins.
    pub user_id: UserId,
    /// How many units.
    pub quantity: u32,
    /// The fewest that would do.
    pub min_quantity: u32,
    /// The client's own data.
    pub labels: Labels,
}

/// How units are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveMode {
    /// For this long, or the event's default.
    Hold(Option<Duration>),
    /// For good.
    Confirm,
}

/// New values for some fields of an event's definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventUpdate {
    /// Where the new values are.
    pub values: Definition,
    /// Which of them count.
    pub fields: Vec<EventField>,
}

/// A field of an event's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of Definition or Limits of its name, or a part of it")]
pub enum EventField {
    DisplayName,
    SeriesId,
    SeriesDisplayName,
    VenueId,
    VenueDisplayName,
    StartTime,
    EndTime,
    BookingOpenTime,
    BookingCloseTime,
    BookingClose,
    Labels,
    Capacity,
    MaxQuantity,
    HoldTtlDefault,
    HoldTtlMax,
    MaxExtensions,
    Waitlist,
}

impl EventUpdate {
    /// `old` with the new values put in.
    pub fn merged_into(&self, old: &Definition) -> Definition {
        let (new, mut merged) = (&self.values, old.clone());
        for field in &self.fields {
            match field {
                EventField::DisplayName => merged.display_name.clone_from(&new.display_name),
                EventField::SeriesId => merged.series_id.clone_from(&new.series_id),
                EventField::SeriesDisplayName => merged.series_display_name.clone_from(&new.series_display_name),
                EventField::VenueId => merged.venue_id.clone_from(&new.venue_id),
                EventField::VenueDisplayName => merged.venue_display_name.clone_from(&new.venue_display_name),
                EventField::StartTime => merged.start_time = new.start_time,
                EventField::EndTime => merged.end_time = new.end_time,
                EventField::BookingOpenTime => merged.booking_open_time = new.booking_open_time,
                EventField::BookingCloseTime | EventField::BookingClose => merged.booking_close = new.booking_close,
                EventField::Labels => merged.labels.clone_from(&new.labels),
                EventField::Capacity => merged.capacity = new.capacity,
                EventField::MaxQuantity => merged.limits.max_quantity = new.limits.max_quantity,
                EventField::HoldTtlDefault => merged.limits.hold_ttl_default = new.limits.hold_ttl_default,
                EventField::HoldTtlMax => merged.limits.hold_ttl_max = new.limits.hold_ttl_max,
                EventField::MaxExtensions => merged.limits.max_extensions = new.limits.max_extensions,
                EventField::Waitlist => merged.waitlist = new.waitlist,
            }
        }
        merged
    }
}

impl Command {
    /// The command as `caller` asks for it. The request_ids of a caller that may act for one user only are that user's
    /// own: a caller can't learn which ids others have used.
    #[must_use]
    pub fn by(mut self, caller: Caller) -> Self {
        if let (Some(user), Some(request)) = (&caller.only, &mut self.request) {
            request.id = request.id.of(user);
        }
        self.caller = caller;
        self
    }

    /// Which reservation the decision reads, whatever the state of the event.
    pub fn target(&self) -> Option<Target> {
        match &self.action {
            Action::Reserve(reserve) => Some(Target::User(reserve.user_id.clone())),
            Action::Join(join) => Some(Target::User(join.user_id.clone())),
            Action::Confirm { target, .. }
            | Action::Cancel { target, .. }
            | Action::Extend { target, .. }
            | Action::Amend { target, .. } => Some(target.clone()),
            Action::Expire(id) => Some(Target::Id(*id)),
            Action::Leave { .. }
            | Action::AmendEntry { .. }
            | Action::PromoteEntry { .. }
            | Action::Promote
            | Action::UpdateEvent(_)
            | Action::OpenEvent
            | Action::CloseEvent
            | Action::CancelEvent { .. }
            | Action::DeleteEvent => None,
        }
    }

    /// Whether it is about the event itself, and not about a user's reservation or waitlist entry.
    /// Its etag is the event's then.
    pub const fn is_about_the_event(&self) -> bool {
        match self.action {
            Action::UpdateEvent(_)
            | Action::OpenEvent
            | Action::CloseEvent
            | Action::CancelEvent { .. }
            | Action::DeleteEvent
            | Action::Promote => true,
            Action::Reserve(_)
            | Action::Confirm { .. }
            | Action::Cancel { .. }
            | Action::Extend { .. }
            | Action::Amend { .. }
            | Action::Expire(_)
            | Action::Join(_)
            | Action::Leave { .. }
            | Action::AmendEntry { .. }
            | Action::PromoteEntry { .. } => false,
        }
    }

    /// Whether it ends everything on its event: a large write.
    pub const fn ends_all(&self) -> bool {
        matches!(self.action, Action::CancelEvent { .. })
    }

    /// Whether it is decided on sums over the whole event, which are those of the event as it was read: nothing may be
    /// decided before it on the same reading.
    pub const fn reads_sums(&self) -> bool {
        matches!(self.action, Action::CancelEvent { .. } | Action::DeleteEvent)
    }

    /// How many units of `event` have to be free for it: an upper bound.
    pub fn units(&self, event: &Event) -> u32 {
        match &self.action {
            Action::Reserve(reserve) => reserve.quantity,
            Action::Join(join) => join.min_quantity,
            Action::Amend { quantity, .. } => quantity.unwrap_or(0),
            Action::UpdateEvent(update) if update.fields.contains(&EventField::Capacity) => {
                event.definition.capacity.saturating_sub(update.values.capacity)
            }
            _ => 0,
        }
    }

    /// What the decision reads of the event as it stands, beside [`Command::target`] and the request's record.
    pub fn needs(&self, event: &Event) -> Needs {
        let is_waited_for = event.counters.waiting > 0;
        let mut needs = Needs::default();
        match &self.action {
            // Where newcomers may not overtake, the number of waiting entries is enough for a refusal.
            Action::Reserve(reserve) if is_waited_for && event.definition.waitlist.newcomers_may_overtake => {
                needs.entries.push(Target::User(reserve.user_id.clone()));
            }
            Action::Join(join) if is_waited_for => needs.entries.push(Target::User(join.user_id.clone())),
            Action::Leave { target } | Action::AmendEntry { target, .. } | Action::PromoteEntry { target, .. } => {
                needs.entries.push(target.clone());
            }
            Action::UpdateEvent(update) if is_waited_for => {
                let largest = update.merged_into(&event.definition).largest_reservation();
                needs.entries_above = Some(largest).filter(|units| *units < event.definition.largest_reservation());
            }
            Action::Promote => needs.queue = Some(event.available()),
            Action::CancelEvent { .. } => needs.totals = true,
            Action::DeleteEvent => needs.history = true,
            _ => {}
        }
        needs
    }

    /// The operation's name, for metrics and spans.
    pub const fn operation(&self) -> &'static str {
        match self.action {
            Action::Reserve(_) => "reserve",
            Action::Confirm { .. } => "confirm",
            Action::Cancel { .. } => "cancel",
            Action::Extend { .. } => "extend",
            Action::Amend { .. } => "amend",
            Action::Expire(_) => "expire",
            Action::Promote => "promote",
            Action::Join(_) => "join_waitlist",
            Action::Leave { .. } => "leave_waitlist",
            Action::AmendEntry { .. } => "amend_waitlist_entry",
            Action::PromoteEntry { .. } => "promote_waitlist_entry",
            Action::UpdateEvent(_) => "update_event",
            Action::OpenEvent => "open_event",
            Action::CloseEvent => "close_event",
            Action::CancelEvent { .. } => "cancel_event",
            Action::DeleteEvent => "delete_event",
        }
    }
}
