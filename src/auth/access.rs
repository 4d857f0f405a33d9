//! What a call was granted.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{clock, principal::Principal, sessions::token::SessionId};
use crate::domain::{caller::Caller, ids::UserId};

/// How far a grant reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// What is this user's.
    Own(UserId),
}

/// What a principal has shown, and how long that is good.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// Seconds since 1970 from which on they are good no more; none: as long as the connection.
    pub expires_at: Option<i64>,
    /// Cancelled once what they rest on is withdrawn.
    pub withdrawn: CancellationToken,
    /// Cancelled once nobody can tell any more whether it is.
    pub unsure: CancellationToken,
    /// The session that they are of, if they are of one.
    pub session: Option<SessionId>,
}

impl Credentials {
    /// Those of a principal, which are good for as long as its connection.
    pub fn of(principal: Principal) -> Self {
        let (withdrawn, unsure) = Default::default();
        Self { principal: Arc::new(principal), expires_at: None, withdrawn, unsure, session: None }
    }

    /// Whether they are still good.
    pub fn are_good(&self) -> bool {
        self.expires_at.is_none_or(|end| clock::now() < end) && !self.withdrawn.is_cancelled()
    }
}

/// What a call was granted; in the extensions of its request.
#[derive(Clone, Debug)]
pub struct Access {
    /// Who calls; none where nobody is asked.
    pub credentials: Option<Arc<Credentials>>,
    /// How far it reaches.
    pub scope: Scope,
}

impl Access {
    /// That of callers who are not asked who they are.
    pub const fn of_anyone() -> Self {
        Self { credentials: None, scope: Scope::All }
    }

    /// Who calls.
    pub fn principal(&self) -> Option<&Principal> {
        self.credentials.as_ref().map(|credentials| &*credentials.principal)
    }

    /// The one user whose things it reaches; all users' if none.
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
