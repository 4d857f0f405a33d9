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
    builder::{About, DOMAIN, Violation, rfc3339},
};
use crate::{
    domain::{ids::EventId, refusal::Refusal},
    ops::{
        OpError,
        feed::{End, Why},
    },
    rpc::pb::ErrorReason,
    telemetry::chain,
};

/// A request with bad fields: names them all, as far as there is room.
pub fn invalid(violations: &[Violation]) -> Status {
    builder::bad_fields(Code::InvalidArgument, ErrorReason::FieldInvalid, violations).finish()
}

/// A page token that is broken or belongs to other filters.
pub fn bad_page_token() -> Status {
    let rule = "is not a token of this listing with these filters";
    let builder = Builder::new(Code::InvalidArgument, ErrorReason::PageTokenInvalid, format!("page_token {rule}"));
    builder.bad_field("page_token", rule).finish()
}

/// The deadline passed.
pub fn deadline() -> Status {
    let message = "the deadline passed; if the call was a mutation with a request_id, repeating it tells the outcome";
    Builder::new(Code::DeadlineExceeded, ErrorReason::Deadline, message).finish()
}

/// The message did not arrive in time. Nothing was begun.
pub fn message_late() -> Status {
    Builder::new(Code::DeadlineExceeded, ErrorReason::MessageLate, "the call's message did not arrive in time").finish()
}

/// Refused because there is too much of something.
pub fn overloaded(what: &str) -> Status {
    Builder::new(Code::ResourceExhausted, ErrorReason::Overloaded, what).retry_in(Duration::from_secs(1)).finish()
}

/// The server has not reached its database yet.
pub fn starting() -> Status {
    let message = "this server is starting: it has not reached its database yet; nothing was changed";
    Builder::new(Code::Unavailable, ErrorReason::DatabaseUnavailable, message).retry_in(Duration::from_secs(1)).finish()
}

/// The server is stopping.
pub fn draining() -> Status {
    stopping().finish()
}

fn stopping() -> Builder {
    let message = "this server is stopping; ask another";
    Builder::new(Code::Unavailable, ErrorReason::Draining, message).retry_in(Duration::from_millis(100))
}

/// The end of watches; with the event that ended them and the version up to which everything was sent for it.
pub fn of_watch_end(end: &End) -> Status {
    let busy = Duration::from_secs(1);
    let builder = match &end.why {
        Why::Over => return Status::ok(""),
        Why::Forgotten => {
            let message = "the next changes are no longer kept; begin with a snapshot";
            Builder::new(Code::OutOfRange, ErrorReason::WatchTooOld, message)
        }
        Why::TooSlow => {
            let message = "the event changed faster than the watcher read";
            Builder::new(Code::ResourceExhausted, ErrorReason::WatchTooSlow, message)
        }
        Why::Draining => stopping(),
        Why::Deadline => Builder::new(Code::DeadlineExceeded, ErrorReason::Deadline, "the caller's deadline passed"),
        Why::Failed(error) => {
            tracing::warn!(error = chain(error), "a watch ended: its changes could not be read");
            Builder::new(Code::Unavailable, ErrorReason::DatabaseUnavailable, "the changes could not be read")
                .retry_in(busy)
        }
    };
    match &end.at {
        Some((event_id, sent)) => {
            let builder = if matches!(end.why, Why::Forgotten) { builder } else { builder.with("sent_version", sent) };
            builder.about(&About::event(event_id)).finish()
        }
        None => builder.finish(),
    }
}

/// A diagnostic RPC that the settings do not allow.
pub fn diagnostics_disabled() -> Status {
    let message = "concurrency tests are off; set diagnostics.concurrency_test to allow them";
    Builder::new(Code::FailedPrecondition, ErrorReason::DiagnosticsDisabled, message).finish()
}

/// A defect: opaque. The caller has logged its cause.
pub fn internal() -> Status {
    Builder::new(Code::Internal, ErrorReason::Internal, "an internal error; it has been logged").finish()
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
        Code::Internal => (Code::InvalidArgument, ErrorReason::MessageMalformed),
        Code::OutOfRange | Code::ResourceExhausted => (Code::ResourceExhausted, ErrorReason::MessageTooLarge),
        Code::Unimplemented if refused.message().is_empty() => (Code::Unimplemented, ErrorReason::MethodUnknown),
        Code::Unimplemented => (Code::Unimplemented, ErrorReason::CompressionUnknown),
        Code::NotFound => (Code::NotFound, ErrorReason::ServiceUnknown),
        _ => (Code::InvalidArgument, ErrorReason::CallRefused),
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
    let builder = Builder::new(Code::InvalidArgument, ErrorReason::MessageMalformed, format!("{part} {why}"));
    builder.bad_field(part, why).finish()
}

/// The error of a use case about `subject`.
pub fn of(error: &OpError, subject: &About) -> Status {
    let reason = reason_named(error.reason());
    let builder = match error {
        OpError::Refused(refusal) => refusal::of_refusal(refusal, subject.event_id.as_ref()),
        OpError::Contention { attempts } => {
            Builder::new(Code::Aborted, reason, format!("the event changed under each of {attempts} attempts"))
                .with("attempts", attempts)
                .retry_in(Duration::from_millis(50))
        }
        OpError::LockTimeout => Builder::new(Code::Aborted, reason, "another call holds the event's row lock")
            .retry_in(Duration::from_millis(20)),
        OpError::Deadline => return deadline(),
        OpError::Busy(what) => return overloaded(what),
        OpError::Unavailable { outcome_unknown, cause } => {
            if let Some(cause) = cause {
                tracing::warn!(error = chain(cause), "the database is unavailable");
            }
            unavailable(reason, *outcome_unknown)
        }
        OpError::Unexpected(_) | OpError::Lost | OpError::Crashed(_) => {
            tracing::error!(error = chain(error), "internal error");
            return internal();
        }
    };
    builder.about(subject).finish()
}

/// The database can't be reached. An unknown outcome has a code that no proxy and no client repeats by itself.
fn unavailable(reason: ErrorReason, outcome_unknown: bool) -> Builder {
    if outcome_unknown {
        let message = "the database was lost during a commit; repeating the call with its request_id tells the outcome";
        return Builder::new(Code::Unknown, reason, message);
    }
    let message = "the database is unavailable; nothing was changed";
    Builder::new(Code::Unavailable, reason, message).retry_in(Duration::from_secs(1))
}

/// The reason of this name. Each name that the ledger and the guard use is one (a test).
fn reason_named(name: &str) -> ErrorReason {
    ErrorReason::from_str_name(name).unwrap_or(ErrorReason::Internal)
}

/// A read of an event that does not exist.
pub fn event_not_found(id: &EventId) -> Status {
    of(&OpError::Refused(Refusal::EventNotFound), &About::event(id))
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
