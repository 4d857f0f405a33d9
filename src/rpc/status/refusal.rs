//! The statuses of what the rules refuse: the one exhaustive table.

use std::time::Duration;

use tonic::Code;

use super::{
    builder::{Builder, DETAILS_ROOM, Violation, bad_fields, fitting, sentence},
    reason_named,
};
use crate::{
    domain::{
        event::EventState,
        ids::{EventId, ReservationId},
        refusal::{FirstUse, Refusal},
        time::Timestamp,
    },
    rpc::pb::ErrorReason,
};

const EVENT: &str = "reservd.v1.Event";
const RESERVATION: &str = "reservd.v1.Reservation";
const ENTRY: &str = "reservd.v1.WaitlistEntry";

/// The status, in the making, of a command or read on `event_id` that was refused.
pub(super) fn of_refusal(refusal: &Refusal, event_id: Option<&EventId>) -> Builder {
    use Refusal as R;
    let (reason, event) = (reason_named(refusal.reason()), event_id.map(ToString::to_string).unwrap_or_default());
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
        R::EventUsed => fails("the event has had reservations or a waitlist; cancel it instead".to_owned()),
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
        R::TtlLimit { field, limit } => ttl_limit(fails, field, *limit),
        R::Inconsistent(problems) => bad_fields(Code::FailedPrecondition, reason, &violations(problems)),
        R::EtagMismatch { current } => aborted(reason, "it has changed since").with("current_etag", current),
        R::EventVersionMismatch { current } => {
            aborted(reason, "the event has changed since").with("event_version", current)
        }
        R::VersionAhead { version } => watch_ahead(reason, *version),
        R::HistoryForgotten { oldest } => {
            let rule = format!("changes are kept from version {oldest} on; begin with a snapshot");
            out_of_range(reason, rule).with("oldest_version", oldest)
        }
        R::RequestIdReused(first) => request_id_reused(fails, first),
    }
}

const LIVE_RESERVATION: &str = "the user has a live reservation for this event";
const NEXT_EXPIRY: &str = "next_hold_expire_time";

fn aborted(reason: ErrorReason, message: &str) -> Builder {
    Builder::new(Code::Aborted, reason, message)
}

fn out_of_range(reason: ErrorReason, message: String) -> Builder {
    Builder::new(Code::OutOfRange, reason, message)
}

fn not_found(reason: ErrorReason, message: String) -> Builder {
    Builder::new(Code::NotFound, reason, message)
}

fn precondition(reason: ErrorReason, event: &str, message: String) -> Builder {
    let mut builder = Builder::new(Code::FailedPrecondition, reason, message.clone());
    builder.details.add_precondition_failure_violation(reason.as_str_name(), event, message);
    builder
}

fn exists(reason: ErrorReason, message: &str, key: &'static str, resource: &str, id: Option<ReservationId>) -> Builder {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    Builder::new(Code::AlreadyExists, reason, message).with(key, &id).resource(resource, id)
}

/// Names the events that exist, or as many as there is room for and how many more there are.
fn event_exists(reason: ErrorReason, ids: &[EventId]) -> Builder {
    let names: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let fit = fitting(&names, DETAILS_ROOM, |name| name.len() + 1);
    let builder = Builder::new(Code::AlreadyExists, reason, format!("these exist: {}", sentence(&names, ", ")))
        .with("event_ids", names[..fit].join(","))
        .resource(EVENT, names.first().cloned().unwrap_or_default());
    if fit < names.len() { builder.with("unlisted", names.len() - fit) } else { builder }
}

fn ttl_limit(fails: impl Fn(String) -> Builder, field: &str, limit: Duration) -> Builder {
    let limit = humantime::format_duration(limit);
    fails(format!("{field} must be at most {limit} for this event")).with("field", field).with("limit", limit)
}

fn watch_ahead(reason: ErrorReason, version: i64) -> Builder {
    let rule = format!("after_version must be at most the event's version, which is {version}");
    out_of_range(reason, rule).with("event_version", version)
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

fn request_id_reused(fails: impl Fn(String) -> Builder, first: &FirstUse) -> Builder {
    let rpc = first.rpc.unwrap_or_default();
    let builder = fails(format!("the request_id stands for an earlier {rpc} with another payload"));
    let ids = [("first_reservation_id", first.reservation_id), ("first_entry_id", first.entry_id)];
    let builder = builder.with("first_rpc", rpc).with_time("first_time", Some(first.time));
    ids.into_iter().fold(builder, |builder, (key, id)| match id {
        Some(id) => builder.with(key, id),
        None => builder,
    })
}

/// The fields of an update that contradict those that stay.
fn violations(problems: &[(&str, &str)]) -> Vec<Violation> {
    let violation =
        |(field, rule): &(&str, &str)| Violation { field: format!("event.{field}"), description: (*rule).to_owned() };
    problems.iter().map(violation).collect()
}
