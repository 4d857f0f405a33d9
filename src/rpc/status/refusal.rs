//! The statuses of what the rules refuse: the one exhaustive table.

use tonic::{Code, Status};

use super::builder::{Builder, DETAILS_ROOM, Violation, fitting, invalid, sentence};
use crate::domain::{
    event::EventState,
    ids::{EventId, ReservationId},
    refusal::Refusal,
    time::Timestamp,
};

const EVENT: &str = "reservd.v1.Event";
const RESERVATION: &str = "reservd.v1.Reservation";
const ENTRY: &str = "reservd.v1.WaitlistEntry";

/// The status of a command or read on `event_id` that was refused.
pub fn of_refusal(refusal: &Refusal, event_id: Option<&EventId>) -> Status {
    use Refusal as R;
    let (reason, event) = (refusal.reason(), event_id.map(ToString::to_string).unwrap_or_default());
    let fails = |message: String| precondition(reason, &event, message);
    let state = |name: &'static str, what: &str| fails(format!("{what} is {name}")).with("state", name);
    match refusal {
        R::EventNotFound => not_found(reason, format!("there is no event {event}")).resource(EVENT, &event),
        R::ReservationNotFound => {
            not_found(reason, format!("event {event} has no such reservation")).resource(RESERVATION, "")
        }
        R::EntryNotFound => not_found(reason, format!("event {event} has no such waitlist entry")).resource(ENTRY, ""),
        R::EventExists(ids) => event_exists(reason, ids),
        R::AlreadyReserved(id) => exists(reason, LIVE_RESERVATION, "reservation_id", RESERVATION, *id),
        R::AlreadyWaiting(id) => exists(reason, "the user is already waiting for this event", "entry_id", ENTRY, *id),
        R::SoldOut { asked, available, next_hold_expiry } => {
            let message = format!("{asked} asked for, {available} available");
            fails(message).with("asked", asked).with("available", available).with_time(NEXT_EXPIRY, *next_hold_expiry)
        }
        R::NotSoldOut { asked, available } => {
            let message = format!("{asked} asked for, {available} available, and none is waiting: reserve instead");
            fails(message).with("asked", asked).with("available", available)
        }
        R::EventNotOpen { state, opens, closed } => not_open(fails, *state, *opens, *closed),
        R::EventState(it) => state(it.name(), "the event"),
        R::NotLive(it) => state(it.name(), "the reservation"),
        R::NotHeld => state("CONFIRMED", "the reservation"),
        R::NotWaiting(it) => state(it.name(), "the waitlist entry"),
        R::HoldExpired(end) => fails("the hold has expired".to_owned()).with_time("expire_time", Some(*end)),
        R::QuantityLimit { asked, limit } => {
            fails(format!("{asked} asked for, at most {limit} allowed")).with("asked", asked).with("limit", limit)
        }
        R::HoldLimit(max) => fails(format!("a user may have {max} holds over all events")).with("limit", max),
        R::ExtensionLimit(max) => fails(format!("a hold may be extended {max} times")).with("limit", max),
        R::CapacityBelowReserved { capacity, reserved } => {
            let message = format!("a capacity of {capacity} is below the {reserved} units that are reserved");
            fails(message).with("capacity", capacity).with("reserved", reserved)
        }
        R::WaitlistAhead { asked, waiting } => {
            let message = format!("the waitlist comes first: {waiting} are waiting");
            fails(message).with("asked", asked).with("waiting", waiting)
        }
        R::WaitlistClosed => fails("the event's waitlist is closed".to_owned()),
        R::WaitlistFull { limit } => fails(format!("{limit} are waiting already")).with("limit", limit),
        R::TtlLimit { .. } | R::Inconsistent(_) | R::VersionAhead { .. } => invalid(&fields(refusal)),
        R::EtagMismatch { current } => {
            Builder::new(Code::Aborted, reason, "it has changed since").with("current_etag", current)
        }
        R::HistoryForgotten { oldest } => {
            let message = format!("changes are kept from version {oldest} on; begin with a snapshot");
            Builder::new(Code::OutOfRange, reason, message).with("oldest_version", oldest)
        }
        R::RequestIdReused => {
            Builder::new(Code::InvalidArgument, reason, format!("request_id {REUSED}")).bad_field("request_id", REUSED)
        }
    }
    .finish()
}

const LIVE_RESERVATION: &str = "the user has a live reservation for this event";
const REUSED: &str = "stands for a call with another payload";
const NEXT_EXPIRY: &str = "next_hold_expire_time";

fn not_found(reason: &'static str, message: String) -> Builder {
    Builder::new(Code::NotFound, reason, message)
}

fn precondition(reason: &'static str, event: &str, message: String) -> Builder {
    let mut builder = Builder::new(Code::FailedPrecondition, reason, message.clone());
    builder.details.add_precondition_failure_violation(reason, format!("events/{event}"), message);
    builder
}

fn exists(
    reason: &'static str,
    message: &str,
    key: &'static str,
    resource: &str,
    id: Option<ReservationId>,
) -> Builder {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    Builder::new(Code::AlreadyExists, reason, message).with(key, &id).resource(resource, id)
}

/// Names the events that exist, or as many as there is room for and how many more there are.
fn event_exists(reason: &'static str, ids: &[EventId]) -> Builder {
    let names: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let fit = fitting(&names, DETAILS_ROOM, |name| name.len() + 1);
    let builder = Builder::new(Code::AlreadyExists, reason, format!("these exist: {}", sentence(&names, ", ")))
        .with("event_ids", names[..fit].join(","))
        .resource(EVENT, names.first().cloned().unwrap_or_default());
    if fit < names.len() { builder.with("unlisted", names.len() - fit) } else { builder }
}

fn not_open(
    fails: impl Fn(String) -> Builder,
    state: EventState,
    opens: Option<Timestamp>,
    closed: Option<Timestamp>,
) -> Builder {
    let message = match (opens, closed) {
        (Some(_), _) => "booking has not opened yet".to_owned(),
        (_, Some(_)) => "booking has closed".to_owned(),
        _ => format!("the event is {}", state.name()),
    };
    let builder = fails(message).with("state", state.name());
    builder.with_time("booking_open_time", opens).with_time("booking_close_time", closed)
}

/// The fields that are bad for what the event is, where a refusal is about fields.
fn fields(refusal: &Refusal) -> Vec<Violation> {
    match refusal {
        Refusal::TtlLimit { field, limit } => {
            let description = format!("must be at most {} for this event", humantime::format_duration(*limit));
            vec![Violation { field: (*field).to_owned(), description }]
        }
        Refusal::VersionAhead { version } => {
            let description = format!("must be at most the event's version, which is {version}");
            vec![Violation { field: "after_version".to_owned(), description }]
        }
        Refusal::Inconsistent(problems) => problems
            .iter()
            .map(|(field, rule)| Violation { field: format!("event.{field}"), description: (*rule).to_owned() })
            .collect(),
        _ => Vec::new(),
    }
}
