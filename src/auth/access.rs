//! The access that a call is granted.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{clock, principal::Principal, session_token::SessionId};
use crate::domain::{caller::Caller, ids::UserId};

/// Whose data a call may access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everyone's.
    All,
    /// This user's own.
    Own(UserId),
}

/// A verified principal, and how long the verification is valid.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The caller.
    pub principal: Arc<Principal>,
    /// When they expire, in seconds since 1970; none: never.
    pub expires_at: Option<i64>,
    /// Cancelled when the key, the session or the certificate behind them is revoked.
    pub revoked: CancellationToken,
    /// Cancelled when it can no longer be verified whether they are revoked.
    pub unverifiable: CancellationToken,
    /// The session, if they are a session's.
    pub session: Option<SessionId>,
}

impl Credentials {
    /// Credentials without an end.
    pub fn of(principal: Principal) -> Self {
        let (revoked, unverifiable) = Default::default();
        Self { principal: Arc::new(principal), expires_at: None, revoked, unverifiable, session: None }
    }

    /// Whether they are neither expired nor revoked.
    pub fn are_good(&self) -> bool {
        self.expires_at.is_none_or(|end| clock::now() < end) && !self.revoked.is_cancelled()
    }
}

/// The access that a call is granted; in the extensions of its request.
#[derive(Clone, Debug)]
pub struct Access {
    /// The caller; none where authentication is off.
    pub credentials: Option<Arc<Credentials>>,
    /// Whose data it may access.
    pub scope: Scope,
}

impl Access {
    /// Full access, for every caller where authentication is off.
    pub const fn unauthenticated() -> Self {
        Self { credentials: None, scope: Scope::All }
    }

    /// The caller.
    pub fn principal(&self) -> Option<&Principal> {
        self.credentials.as_ref().map(|credentials| &*credentials.principal)
    }

    /// The only user whose data it may access; none: all users.
    pub const fn only(&self) -> Option<&UserId> {
        match &self.scope {
            Scope::All => None,
            Scope::Own(user) => Some(user),
        }
    }

    /// The caller of a command.
    pub fn caller(&self) -> Caller {
        let actor = self.principal().map(|principal| principal.name.clone());
        Caller { actor, only: self.only().cloned(), hold_limit_reached: None }
    }
}
