//! The statuses of callers without access, and of sessions.

use std::time::Duration;

use tonic::{Code, Status};

use super::{builder::Builder, reason_named};
use crate::{auth::denial::Denial, rpc::pb::ErrorReason};

const SESSION: &str = "reservd.v1.Session";

/// A call by a user that names another user.
pub fn not_your_user(field: &str) -> Status {
    Builder::new(Code::PermissionDenied, ErrorReason::UserMismatch, format!("{field} must be the caller's own"))
        .with("field", field)
        .finish()
}

/// A call or a stream whose caller's credentials have ended.
pub fn credentials_ended() -> Status {
    let reason = ErrorReason::CredentialsEnded;
    Builder::new(Code::Unauthenticated, reason, "the caller's credentials are no longer valid").finish()
}

/// A call that the guard refused.
pub fn denied(denial: &Denial) -> Status {
    let builder = |code, message: String| Builder::new(code, reason_named(denial.reason()), message);
    match denial {
        Denial::CredentialsMissing => {
            builder(Code::Unauthenticated, "a bearer token or a client certificate is needed".into())
        }
        Denial::Token(problem) => {
            builder(Code::Unauthenticated, problem.text().to_owned()).with("problem", problem.name())
        }
        Denial::SessionEnded => builder(
            Code::Unauthenticated,
            "there is no such session: it was revoked, has expired, or never existed".to_owned(),
        ),
        Denial::CredentialsEnded => return credentials_ended(),
        Denial::SessionsUnavailable => return sessions_unavailable(),
        Denial::Certificate => builder(
            Code::Unauthenticated,
            "the client certificate must name one SPIFFE id, or one common name".to_owned(),
        ),
        Denial::KeysUnavailable => {
            builder(Code::Unavailable, "the keys that verify the token are not available".to_owned())
                .retry_in(Duration::from_secs(5))
        }
        Denial::Role(roles) => {
            let roles = roles.join(", ");
            builder(Code::PermissionDenied, format!("one of these roles is needed: {roles}")).with("roles", roles)
        }
        Denial::UnknownMethod => builder(Code::Unimplemented, "there is no such method".to_owned()),
        Denial::Rate { of, wait } => {
            builder(Code::ResourceExhausted, format!("too many calls of one {of}")).with("of", of).retry_in(*wait)
        }
        Denial::Streams(limit) => {
            builder(Code::ResourceExhausted, format!("at most {limit} streams at once")).with("limit", limit)
        }
    }
    .finish()
}

/// A call that needs Redis while Redis is unavailable.
pub fn sessions_unavailable() -> Status {
    let message = "Redis, which holds the sessions, is unavailable";
    Builder::new(Code::Unavailable, ErrorReason::SessionsUnavailable, message).retry_in(Duration::from_secs(1)).finish()
}

/// An RPC about sessions where the settings have no Redis.
pub fn sessions_disabled() -> Status {
    let message = "sessions are off; set sessions.url to have them";
    Builder::new(Code::FailedPrecondition, ErrorReason::SessionsDisabled, message).finish()
}

/// A session that does not exist, or not for this caller.
pub fn session_not_found() -> Status {
    Builder::new(Code::NotFound, ErrorReason::SessionNotFound, "there is no such session")
        .resource(SESSION, "")
        .finish()
}

/// A call about its own session that was not made with a session.
pub fn no_current_session() -> Status {
    let message = "the call is not made with a session's token";
    Builder::new(Code::NotFound, ErrorReason::SessionNotFound, message).resource(SESSION, "").finish()
}

/// A session with a role that the caller may not grant.
pub fn role_not_grantable(grantable: &str) -> Status {
    let message = format!("the caller may grant these roles only: {grantable}");
    Builder::new(Code::PermissionDenied, ErrorReason::RoleNotGrantable, message)
        .with("field", "roles")
        .with("grantable", grantable)
        .finish()
}
