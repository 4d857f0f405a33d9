//! Errors to `google.rpc.Status`: the one exhaustive table. Every status has an `ErrorInfo`, and none
//! has a word of SQL.

mod access;

use std::{collections::HashMap, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub use access::*;

use super::fields::Violation;
use crate::{
    domain::{ids::EventId, refusal::Refusal, time::Timestamp},
    ops::{
        OpError,
        feed::{End, Why},
    },
    telemetry::chain,
};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "reservd";

const EVENT: &str = "reservd.v1.Event";
const RESERVATION: &str = "reservd.v1.Reservation";
const ENTRY: &str = "reservd.v1.WaitlistEntry";

type Metadata = Vec<(&'static str, String)>;

/// A status in the making.
struct Draft {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: Metadata,
    details: ErrorDetails,
}

impl Draft {
    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: Vec::new(), details: ErrorDetails::new() }
    }

    fn draining() -> Self {
        let wait = Duration::from_millis(100);
        Self::new(Code::Unavailable, "DRAINING", "this server is stopping; ask another").retry_in(wait)
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn retry_in(mut self, wait: Duration) -> Self {
        self.details.set_retry_info(Some(wait));
        self
    }

    fn resource(mut self, kind: &str, name: impl Into<String>) -> Self {
        self.details.set_resource_info(kind, name, "", self.message.clone());
        self
    }

    fn finish(mut self) -> Status {
        let metadata: HashMap<_, _> = self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.details.set_error_info(self.reason, DOMAIN, metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

/// Bytes of the items that a status lists in its details, and of those that its message does. It
/// travels in HTTP/2 headers: clients take 8 KiB of these (gRPC's C core) or 16 (Rust), and where there
/// is more, their callers learn nothing at all.
const DETAILS_ROOM: usize = 3 * 1024;
const MESSAGE_ROOM: usize = 512;

/// How many of `items` fit into `room`; the first always does.
fn fitting<T>(items: &[T], room: usize, size: impl Fn(&T) -> usize) -> usize {
    let mut left = room;
    let fit = items.iter().take_while(|item| {
        let size = size(item);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fit.count().max(1).min(items.len())
}

/// `items` as a sentence, as far as there is room.
fn sentence(items: &[String], separator: &str) -> String {
    let fit = fitting(items, MESSAGE_ROOM, |item| item.len() + separator.len());
    let more = items.len() - fit;
    let said = items[..fit].join(separator);
    if more == 0 { said } else { format!("{said}{separator}and {more} more") }
}

/// The status of a request with bad fields: names them all, or as many as a status has room for and
/// how many more there are.
pub fn invalid(violations: Vec<Violation>) -> Status {
    let summary: Vec<_> = violations.iter().map(|bad| format!("{} {}", bad.field, bad.description)).collect();
    let mut draft = Draft::new(Code::InvalidArgument, "FIELD_INVALID", sentence(&summary, "; "));
    // Each is framed by some bytes more.
    let fit = fitting(&violations, DETAILS_ROOM, |bad| bad.field.len() + bad.description.len() + 8);
    let more = violations.len() - fit;
    for bad in violations.into_iter().take(fit) {
        draft.details.add_bad_request_violation(bad.field, bad.description);
    }
    if more > 0 { draft.with("unlisted", more).finish() } else { draft.finish() }
}

/// The status of a page token that is broken or belongs to other filters.
pub fn bad_page_token() -> Status {
    let rule = "is not a token of this listing with these filters";
    let mut draft = Draft::new(Code::InvalidArgument, "PAGE_TOKEN_INVALID", format!("page_token {rule}"));
    draft.details.add_bad_request_violation("page_token", rule);
    draft.finish()
}

/// The status of an RPC whose time is over.
pub fn deadline() -> Status {
    Draft::new(
        Code::DeadlineExceeded,
        "DEADLINE",
        "the deadline passed; if the call was a mutation with a request_id, repeating it tells the outcome",
    )
    .finish()
}

/// The status of an RPC whose message did not come in time. Nothing was begun.
pub fn message_late() -> Status {
    Draft::new(Code::DeadlineExceeded, "MESSAGE_LATE", "the call's message did not come in time").finish()
}

/// The status of an RPC that was refused because too many are under way.
pub fn overloaded(what: &str) -> Status {
    Draft::new(Code::ResourceExhausted, "OVERLOADED", what).retry_in(Duration::from_secs(1)).finish()
}

/// The status of an RPC that came while the server is stopping.
pub fn draining() -> Status {
    Draft::draining().finish()
}

/// The status with which a watch ends; where that makes sense, with the version to resume from.
pub fn of_watch_end(end: &End) -> Status {
    let busy = Duration::from_secs(1);
    let draft = match &end.why {
        Why::Over => return Status::ok(""),
        Why::Forgotten => {
            let message = "what was to be told next is no longer kept; begin with a snapshot";
            return Draft::new(Code::OutOfRange, "WATCH_TOO_OLD", message).finish();
        }
        Why::TooSlow => {
            let message = "the event changed faster than the watcher read";
            Draft::new(Code::ResourceExhausted, "WATCH_TOO_SLOW", message).retry_in(busy)
        }
        Why::Draining => Draft::draining(),
        Why::Deadline => Draft::new(Code::DeadlineExceeded, "DEADLINE", "the time that the caller had set is over"),
        Why::Failed(error) => {
            tracing::warn!(error = chain(error), "a watch ended, since its changes could not be read");
            Draft::new(Code::Unavailable, "DATABASE_UNAVAILABLE", "the changes could not be read").retry_in(busy)
        }
    };
    draft.with("resume_version", end.version).finish()
}

/// The status of a diagnostic RPC that the settings do not allow.
pub fn diagnostics_disabled() -> Status {
    Draft::new(
        Code::FailedPrecondition,
        "DIAGNOSTICS_DISABLED",
        "concurrency tests are off; set diagnostics.concurrency_test to allow them",
    )
    .finish()
}

/// The status of a defect: opaque. The caller has logged its cause.
pub fn internal() -> Status {
    Draft::new(Code::Internal, "INTERNAL", "an internal error; it has been logged").finish()
}

/// The status of a call that tonic refused by itself, with a reason, which it has not: of an unknown
/// method, or a message that it can't take or read. It speaks INTERNAL of the latter; but that is our
/// word for our own defects, and the message is the caller's.
pub fn explained(refused: &Status) -> Status {
    let (code, reason) = match refused.code() {
        Code::Internal => (Code::InvalidArgument, "MESSAGE_MALFORMED"),
        Code::OutOfRange | Code::ResourceExhausted => (refused.code(), "MESSAGE_TOO_LARGE"),
        Code::Unimplemented if refused.message().is_empty() => (Code::Unimplemented, "METHOD_UNKNOWN"),
        Code::Unimplemented => (Code::Unimplemented, "COMPRESSION_UNKNOWN"),
        Code::NotFound => (Code::NotFound, "SERVICE_UNKNOWN"),
        other => (other, "CALL_REFUSED"),
    };
    let message = match refused.message() {
        "" => "there is no such method".to_owned(),
        text => text.chars().take(MESSAGE_ROOM).collect(),
    };
    Draft::new(code, reason, message).finish()
}

/// The status of a message from the broker that can't be read, for what is wrong with `part` of it.
pub fn unreadable(part: &str, why: &str) -> Status {
    let said: String = why.chars().take(MESSAGE_ROOM).collect();
    let mut draft = Draft::new(Code::InvalidArgument, "MESSAGE_MALFORMED", format!("{part} {said}"));
    draft.details.add_bad_request_violation(part, said);
    draft.finish()
}

/// The status of what a use case on `event_id` said.
pub fn of(error: &OpError, event_id: Option<&EventId>) -> Status {
    let reason = error.reason();
    match error {
        OpError::Refused(refusal) => of_refusal(refusal, event_id),
        OpError::Contention { attempts } => {
            Draft::new(Code::Aborted, reason, format!("the event changed under each of {attempts} attempts"))
                .with("attempts", attempts)
                .retry_in(Duration::from_millis(50))
                .finish()
        }
        OpError::LockTimeout => Draft::new(Code::Aborted, reason, "another call holds the event's row lock")
            .retry_in(Duration::from_millis(20))
            .finish(),
        OpError::Deadline => deadline(),
        OpError::Busy(what) => overloaded(what),
        OpError::Unavailable { outcome_unknown, cause } => {
            if let Some(cause) = cause {
                tracing::warn!(error = chain(cause), "the database is unavailable");
            }
            let message = if *outcome_unknown {
                "the database was lost during a commit; repeating the call with its request_id tells the outcome"
            } else {
                "the database is unavailable; nothing was changed"
            };
            Draft::new(Code::Unavailable, reason, message)
                .with("outcome", if *outcome_unknown { "unknown" } else { "nothing_changed" })
                .retry_in(Duration::from_secs(1))
                .finish()
        }
        OpError::Unexpected(_) | OpError::Lost | OpError::Crashed(_) => {
            tracing::error!(error = chain(error), "internal error");
            internal()
        }
    }
}

fn of_refusal(refusal: &Refusal, event_id: Option<&EventId>) -> Status {
    let event_name = || event_id.map(ToString::to_string).unwrap_or_default();
    let reason = refusal.reason();
    let fails = |message: String| {
        let mut draft = Draft::new(Code::FailedPrecondition, reason, message.clone());
        draft.details.add_precondition_failure_violation(reason, format!("events/{}", event_name()), message);
        draft
    };
    match refusal {
        Refusal::EventNotFound => Draft::new(Code::NotFound, reason, format!("there is no event {}", event_name()))
            .resource(EVENT, event_name()),
        Refusal::ReservationNotFound => {
            Draft::new(Code::NotFound, reason, format!("event {} has no such reservation", event_name()))
                .resource(RESERVATION, "")
        }
        Refusal::EventExists(ids) => {
            let names: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let fit = fitting(&names, DETAILS_ROOM, |name| name.len() + 1);
            let draft = Draft::new(Code::AlreadyExists, reason, format!("already there: {}", sentence(&names, ", ")))
                .with("event_ids", names[..fit].join(","))
                .resource(EVENT, names.first().cloned().unwrap_or_default());
            if fit < names.len() { draft.with("unlisted", names.len() - fit) } else { draft }
        }
        Refusal::AlreadyReserved(id) => {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            Draft::new(Code::AlreadyExists, reason, "the user has a live reservation for this event")
                .with("reservation_id", &id)
                .resource(RESERVATION, id)
        }
        Refusal::SoldOut { asked, available, next_hold_expiry } => {
            let draft = fails(format!("{asked} asked for, {available} available"))
                .with("asked", asked)
                .with("available", available);
            with_time(draft, "next_hold_expire_time", *next_hold_expiry)
        }
        Refusal::EventNotOpen { state, opens, closed } => {
            let draft = fails(match (opens, closed) {
                (Some(_), _) => "booking has not begun".to_owned(),
                (_, Some(_)) => "booking is over".to_owned(),
                _ => format!("the event is {}", state.name()),
            })
            .with("state", state.name());
            with_time(with_time(draft, "booking_open_time", *opens), "booking_close_time", *closed)
        }
        Refusal::EventState(state) => fails(format!("the event is {}", state.name())).with("state", state.name()),
        Refusal::HoldExpired(end) => with_time(fails("the hold's time is over".to_owned()), "expire_time", Some(*end)),
        Refusal::NotLive(state) => fails(format!("the reservation is {}", state.name())).with("state", state.name()),
        Refusal::NotHeld => fails("the reservation is CONFIRMED already".to_owned()).with("state", "CONFIRMED"),
        Refusal::QuantityLimit { asked, limit } => {
            fails(format!("{asked} asked for, at most {limit} allowed")).with("asked", asked).with("limit", limit)
        }
        Refusal::HoldLimit(limit) => {
            fails(format!("a user may have {limit} holds at once over all events")).with("limit", limit)
        }
        Refusal::ExtensionLimit(limit) => {
            fails(format!("a hold of this event may be extended {limit} times")).with("limit", limit)
        }
        Refusal::CapacityBelowReserved { capacity, reserved } => {
            fails(format!("{reserved} units are reserved, a capacity of {capacity} would be below that"))
                .with("capacity", capacity)
                .with("reserved", reserved)
        }
        Refusal::TtlLimit { field, limit } => {
            return invalid(vec![Violation {
                field: (*field).to_owned(),
                description: format!("must be at most {} for this event", humantime::format_duration(*limit)),
            }]);
        }
        Refusal::Inconsistent(problems) => {
            return invalid(
                problems
                    .iter()
                    .map(|(field, rule)| Violation { field: format!("event.{field}"), description: (*rule).to_owned() })
                    .collect(),
            );
        }
        Refusal::EtagMismatch { current } => {
            Draft::new(Code::Aborted, reason, "it has changed since").with("current_etag", current)
        }
        Refusal::WaitlistAhead { asked, waiting } => {
            fails(format!("{waiting} wait for this event and come first")).with("asked", asked).with("waiting", waiting)
        }
        Refusal::WaitlistClosed => fails("one can't join this event's waitlist".to_owned()),
        Refusal::WaitlistFull { limit } => fails(format!("{limit} wait already")).with("limit", limit),
        Refusal::AlreadyWaiting(id) => {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            Draft::new(Code::AlreadyExists, reason, "the user waits for this event already")
                .with("entry_id", &id)
                .resource(ENTRY, id)
        }
        Refusal::NotSoldOut { asked, available } => {
            fails(format!("{asked} asked for, {available} available, and nobody waits: reserve instead"))
                .with("asked", asked)
                .with("available", available)
        }
        Refusal::EntryNotFound => {
            Draft::new(Code::NotFound, reason, format!("event {} has no such waitlist entry", event_name()))
                .resource(ENTRY, "")
        }
        Refusal::NotWaiting(state) => {
            fails(format!("the waitlist entry is {}", state.name())).with("state", state.name())
        }
        Refusal::HistoryForgotten { oldest } => {
            let message = format!("changes are kept from version {oldest} on; begin with a snapshot");
            Draft::new(Code::OutOfRange, reason, message).with("oldest_version", oldest)
        }
        Refusal::VersionAhead { version } => {
            return invalid(vec![Violation {
                field: "after_version".to_owned(),
                description: format!("must be at most the event's version, which is {version}"),
            }]);
        }
        Refusal::RequestIdReused => {
            let rule = "stands for a call with another payload";
            let mut draft = Draft::new(Code::InvalidArgument, reason, format!("request_id {rule}"));
            draft.details.add_bad_request_violation("request_id", rule);
            draft
        }
    }
    .finish()
}

fn with_time(draft: Draft, key: &'static str, time: Option<Timestamp>) -> Draft {
    match time.and_then(rfc3339) {
        Some(text) => draft.with(key, text),
        None => draft,
    }
}

/// A moment as text; none beyond the year 9999.
pub fn rfc3339(time: Timestamp) -> Option<String> {
    let nanos = i128::from(time.micros()) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// The status of a read of an event that does not exist.
pub fn event_not_found(id: &EventId) -> Status {
    of_refusal(&Refusal::EventNotFound, Some(id))
}
