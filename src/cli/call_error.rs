//! A failed call in one plain line: what the server says, its reason, and what to do.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::failure::{Ended, Exit, Failure};
use crate::rpc::pb::ErrorReason;

/// The failure of a call that changes nothing.
pub fn failed(status: Status) -> Failure {
    explained(&status, None)
}

/// The failure of a mutation. Where its outcome is not known, repeating it with these flags tells it.
pub fn mutation_failed(status: &Status, repeat: &str) -> Failure {
    explained(status, Some(repeat))
}

fn explained(status: &Status, repeat: Option<&str>) -> Failure {
    let name = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let reason = ErrorReason::from_str_name(&name);
    let mut line = status.message().to_owned();
    if !name.is_empty() {
        line.push_str(&format!(" ({name})"));
    }
    let is_unknown = match reason {
        Some(reason) => matches!(reason, ErrorReason::Deadline | ErrorReason::OutcomeUnknown),
        // No answer of reservd: the call may have reached it, unless something else answers there.
        None => status.code() != Code::Unimplemented,
    };
    let what_to_do = match repeat.filter(|_| is_unknown) {
        Some(repeat) => format!("repeat the command with {repeat} to know whether it was done"),
        None => reason.map_or("", advice).to_owned(),
    };
    if !what_to_do.is_empty() {
        line = format!("{line}; {what_to_do}");
    }
    let exit =
        if reason.is_some_and(|reason| is_refusal(status.code(), reason)) { Exit::Refused } else { Exit::Failed };
    Ended { exit, line }.into()
}

/// Whether the rules of the ledger are against the call, and not the server's settings.
const fn is_refusal(code: Code, reason: ErrorReason) -> bool {
    let is_off = matches!(reason, ErrorReason::DiagnosticsDisabled | ErrorReason::SessionsDisabled);
    !is_off && matches!(code, Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange)
}

/// What to do about an error; empty where its message says so, or nothing can be done.
const fn advice(reason: ErrorReason) -> &'static str {
    use ErrorReason as R;
    match reason {
        R::EventNotFound => "`reservd event list` has them all",
        R::ReservationNotFound => "`reservd reservation list --event EVENT` has them all",
        R::AlreadyReserved => "`reservd reservation show EVENT USER` shows it",
        R::AlreadyWaiting => "`reservd waitlist list --event EVENT` has the entry",
        R::SoldOut => "ask for fewer, or try again when a hold lapses",
        R::EventNotOpen => "`reservd event show EVENT` says why",
        R::HoldExpired | R::NotLive => "reserve again",
        R::EtagMismatch | R::EventVersionMismatch => "read it again, and decide again",
        R::RequestIdReused => "leave --request-id out, or repeat the first command as it was",
        R::CredentialsMissing => "give a token with --token-file FILE or in RESERVD_TOKEN",
        R::TokenInvalid | R::TokenExpired | R::SessionEnded | R::CredentialsEnded => {
            "give another token with --token-file FILE or in RESERVD_TOKEN"
        }
        R::RoleMissing | R::UserMismatch => "give a token that may do this with --token-file FILE or in RESERVD_TOKEN",
        R::VersionContention
        | R::LockTimeout
        | R::Overloaded
        | R::RateLimited
        | R::DatabaseUnavailable
        | R::KeysUnavailable
        | R::SessionsUnavailable
        | R::Draining => "try again",
        R::Deadline => "give it more time with --timeout DURATION",
        R::WatchTooOld => "leave --after-version out",
        R::Internal => "the server's log has the cause",
        _ => "",
    }
}
