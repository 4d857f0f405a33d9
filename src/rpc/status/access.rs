//! The statuses of those who are not let in, not so far, or no longer; and of sessions.

use std::time::Duration;

use tonic::{Code, Status};

use super::{Draft, internal};
use crate::auth::denial::Denial;

const SESSION: &str = "reservd.v1.Session";

/// The status of a call by a user that names another user.
pub fn not_your_user(field: &str) -> Status {
    Draft::new(Code::PermissionDenied, "USER_MISMATCH", format!("{field} must be the caller's own"))
        .with("field", field)
        .finish()
}

/// The status of a stream whose caller's credentials have ended before it.
pub fn credentials_ended() -> Status {
    let reason = "CREDENTIALS_ENDED";
    Draft::new(Code::Unauthenticated, reason, "the credentials that opened the stream are good no more").finish()
}

/// The status of a call that nobody was asked about: a defect that must not let it in.
pub fn not_asked_for() -> Status {
    tracing::error!("a call has come to its handler without access");
    internal()
}

/// The status of a call that was not let in.
pub fn denied(denial: &Denial) -> Status {
    let draft = |code, message: String| Draft::new(code, denial.reason(), message);
    match denial {
        Denial::CredentialsMissing => {
            draft(Code::Unauthenticated, "say who you are: with a bearer token, or a client certificate".into())
        }
        Denial::Token(problem) => {
            draft(Code::Unauthenticated, problem.text().to_owned()).with("problem", problem.name())
        }
        Denial::SessionEnded => draft(
            Code::Unauthenticated,
            "there is no such session: it was revoked, has lapsed, or never was".to_owned(),
        ),
        Denial::SessionsUnavailable => return sessions_unavailable(),
        Denial::Certificate => draft(
            Code::Unauthenticated,
            "the client certificate must name one SPIFFE id, or one common name".to_owned(),
        ),
        Denial::KeysUnavailable => {
            draft(Code::Unavailable, "the keys that would tell whether the token is good are not at hand".to_owned())
                .retry_in(Duration::from_secs(5))
        }
        Denial::Role(roles) => {
            let roles = roles.join(", ");
            draft(Code::PermissionDenied, format!("one of these roles is needed: {roles}")).with("roles", roles)
        }
        Denial::UnknownMethod => draft(Code::Unimplemented, "there is no such method".to_owned()),
        Denial::Rate { of, wait } => {
            draft(Code::ResourceExhausted, format!("too many calls of one {of}")).with("of", of).retry_in(*wait)
        }
        Denial::Streams(limit) => {
            draft(Code::ResourceExhausted, format!("at most {limit} streams at once")).with("limit", limit)
        }
    }
    .finish()
}

/// The status of what needs Redis while it can't be asked.
pub fn sessions_unavailable() -> Status {
    let message = "Redis, which knows the sessions, can't be asked now";
    Draft::new(Code::Unavailable, "SESSIONS_UNAVAILABLE", message).retry_in(Duration::from_secs(1)).finish()
}

/// The status of an RPC about sessions where the settings name no Redis.
pub fn sessions_disabled() -> Status {
    let message = "there are no sessions here; set sessions.url to have them";
    Draft::new(Code::FailedPrecondition, "SESSIONS_DISABLED", message).finish()
}

/// The status of a session that is not there, or not for this caller.
pub fn session_not_found() -> Status {
    Draft::new(Code::NotFound, "SESSION_NOT_FOUND", "there is no such session").resource(SESSION, "").finish()
}

/// The status of a call that is not made in a session, and is about the one that it is made in.
pub fn no_current_session() -> Status {
    let message = "the call is not made with a session's token";
    Draft::new(Code::NotFound, "SESSION_NOT_FOUND", message).resource(SESSION, "").finish()
}

/// The status of who wants to give a role to a session that is not its own to give.
pub fn role_not_grantable(may_give: &str) -> Status {
    let message = format!("the caller may give these roles only: {may_give}");
    Draft::new(Code::PermissionDenied, "ROLE_NOT_GRANTABLE", message)
        .with("field", "roles")
        .with("grantable", may_give)
        .finish()
}
