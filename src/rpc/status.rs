//! Errors to `google.rpc.Status`, in one place: [`refusal`] for the rules, [`access`] for callers that may not, and here
//! everything else. No status has a word of SQL.

mod access;
mod builder;
mod refusal;

use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};

use self::builder::{Builder, MESSAGE_ROOM};
pub use self::{
    access::*,
    builder::{DOMAIN, Violation, rfc3339},
};
use crate::{
    domain::{ids::EventId, refusal::Refusal},
    ops::{
        OpError,
        feed::{End, Why},
    },
    telemetry::chain,
};

/// A request with bad fields: names them all, as far as there is room.
pub fn invalid(violations: &[Violation]) -> Status {
    builder::invalid(violations).finish()
}

/// A page token that is broken or belongs to other filters.
pub fn bad_page_token() -> Status {
    let rule = "is not a token of this listing with these filters";
    let builder = Builder::new(Code::InvalidArgument, "PAGE_TOKEN_INVALID", format!("page_token {rule}"));
    builder.bad_field("page_token", rule).finish()
}

/// The deadline passed.
pub fn deadline() -> Status {
    let message = "the deadline passed; if the call was a mutation with a request_id, repeating it tells the outcome";
    Builder::new(Code::DeadlineExceeded, "DEADLINE", message).finish()
}

/// The message did not arrive in time. Nothing was begun.
pub fn message_late() -> Status {
    Builder::new(Code::DeadlineExceeded, "MESSAGE_LATE", "the call's message did not arrive in time").finish()
}

/// Refused because there is too much of something.
pub fn overloaded(what: &str) -> Status {
    Builder::new(Code::ResourceExhausted, "OVERLOADED", what).retry_in(Duration::from_secs(1)).finish()
}

/// The server is stopping.
pub fn draining() -> Status {
    stopping().finish()
}

fn stopping() -> Builder {
    let message = "this server is stopping; ask another";
    Builder::new(Code::Unavailable, "DRAINING", message).retry_in(Duration::from_millis(100))
}

/// The end of a watch; with the version to resume from, where that makes sense.
pub fn of_watch_end(end: &End) -> Status {
    let busy = Duration::from_secs(1);
    let builder = match &end.why {
        Why::Over => return Status::ok(""),
        Why::Forgotten => {
            let message = "the next changes are no longer kept; begin with a snapshot";
            return Builder::new(Code::OutOfRange, "WATCH_TOO_OLD", message).finish();
        }
        Why::TooSlow => {
            let message = "the event changed faster than the watcher read";
            Builder::new(Code::ResourceExhausted, "WATCH_TOO_SLOW", message).retry_in(busy)
        }
        Why::Draining => stopping(),
        Why::Deadline => Builder::new(Code::DeadlineExceeded, "DEADLINE", "the caller's deadline passed"),
        Why::Failed(error) => {
            tracing::warn!(error = chain(error), "a watch ended: its changes could not be read");
            Builder::new(Code::Unavailable, "DATABASE_UNAVAILABLE", "the changes could not be read").retry_in(busy)
        }
    };
    builder.with("resume_version", end.version).finish()
}

/// A diagnostic RPC that the settings do not allow.
pub fn diagnostics_disabled() -> Status {
    let message = "concurrency tests are off; set diagnostics.concurrency_test to allow them";
    Builder::new(Code::FailedPrecondition, "DIAGNOSTICS_DISABLED", message).finish()
}

/// A defect: opaque. The caller has logged its cause.
pub fn internal() -> Status {
    Builder::new(Code::Internal, "INTERNAL", "an internal error; it has been logged").finish()
}

/// A call that reached its handler without access: a defect that must not let it in.
pub fn not_authorized() -> Status {
    tracing::error!("a call reached its handler without access");
    internal()
}

/// What tonic refused by itself, with the reason that it lacks: an unknown method, or a message that tonic can't take or
/// read. tonic calls the latter INTERNAL, which here stands for defects of the server; but the message is the caller's.
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
    Builder::new(code, reason, message).finish()
}

/// A message from the broker that can't be read, because of `part` of it.
pub fn unreadable(part: &str, why: &str) -> Status {
    let why: String = why.chars().take(MESSAGE_ROOM).collect();
    let builder = Builder::new(Code::InvalidArgument, "MESSAGE_MALFORMED", format!("{part} {why}"));
    builder.bad_field(part, why).finish()
}

/// The error of a use case on `event_id`.
pub fn of(error: &OpError, event_id: Option<&EventId>) -> Status {
    let reason = error.reason();
    match error {
        OpError::Refused(refusal) => refusal::of_refusal(refusal, event_id),
        OpError::Contention { attempts } => {
            Builder::new(Code::Aborted, reason, format!("the event changed under each of {attempts} attempts"))
                .with("attempts", attempts)
                .retry_in(Duration::from_millis(50))
                .finish()
        }
        OpError::LockTimeout => Builder::new(Code::Aborted, reason, "another call holds the event's row lock")
            .retry_in(Duration::from_millis(20))
            .finish(),
        OpError::Deadline => deadline(),
        OpError::Busy(what) => overloaded(what),
        OpError::Unavailable { outcome_unknown, cause } => {
            if let Some(cause) = cause {
                tracing::warn!(error = chain(cause), "the database is unavailable");
            }
            let (outcome, message) = match outcome_unknown {
                true => (
                    "unknown",
                    "the database was lost during a commit; repeating the call with its request_id tells the outcome",
                ),
                false => ("nothing_changed", "the database is unavailable; nothing was changed"),
            };
            Builder::new(Code::Unavailable, reason, message)
                .with("outcome", outcome)
                .retry_in(Duration::from_secs(1))
                .finish()
        }
        OpError::Unexpected(_) | OpError::Lost | OpError::Crashed(_) => {
            tracing::error!(error = chain(error), "internal error");
            internal()
        }
    }
}

/// A read of an event that does not exist.
pub fn event_not_found(id: &EventId) -> Status {
    refusal::of_refusal(&Refusal::EventNotFound, Some(id))
}

/// The status as the trailers that end a stream.
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Its message is no header value; no message of the server is like that.
        let _ = Status::new(status.code(), "").add_header(&mut trailers);
    }
    trailers
}
