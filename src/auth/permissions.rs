//! The table of the permission that each RPC needs. An RPC without a row is denied to everyone.

use std::collections::HashMap;

use super::{
    access::Scope,
    principal::{Principal, Role, Roles},
};

/// The permission that an RPC needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// None: everyone may call it.
    Nothing,
    /// Authentication, with any roles or none.
    Identity,
    /// One of these roles; or, if `own`, the role `user`, which accesses only its own data.
    Role {
        /// The roles that access everyone's data.
        any: Roles,
        /// Whether a user may call it for itself.
        own: bool,
    },
}

use Role::{Admin, BoxOffice, EventManager, Reader, Service};

/// Every role: the response has no personal data.
const PUBLIC: Need = Need::Role { any: Roles::of(&Role::ALL), own: false };
const MANAGE: Need = Need::Role { any: Roles::of(&[Admin, EventManager, BoxOffice]), own: false };
const INSPECT: Need = Need::Role { any: Roles::of(&[Admin, EventManager, Service, Reader, BoxOffice]), own: false };
const RESERVE: Need = Need::Role { any: Roles::of(&[Admin, Service, BoxOffice]), own: true };
const SEE: Need = Need::Role { any: Roles::of(&[Admin, Service, Reader, BoxOffice]), own: true };
/// Shows every user's data, so the role `user` is not enough.
const SEE_ALL: Need = Need::Role { any: Roles::of(&[Admin, Service, Reader, BoxOffice]), own: false };
/// Opens sessions. `rpc::session_service` checks that a caller grants no more than it has.
const GRANT: Need = Need::Role { any: Roles::of(&[Admin, Service]), own: false };
const REVOKE: Need = Need::Role { any: Roles::of(&[Admin, Service]), own: true };
const OPERATE: Need = Need::Role { any: Roles::of(&[Admin]), own: false };

/// Every RPC, by its path.
pub const TABLE: &[(&str, Need)] = &[
    ("/reservd.v1.EventService/CreateEvent", MANAGE),
    ("/reservd.v1.EventService/BatchCreateEvents", MANAGE),
    ("/reservd.v1.EventService/UpdateEvent", MANAGE),
    ("/reservd.v1.EventService/OpenEvent", MANAGE),
    ("/reservd.v1.EventService/CloseEvent", MANAGE),
    ("/reservd.v1.EventService/CancelEvent", MANAGE),
    ("/reservd.v1.EventService/DeleteEvent", MANAGE),
    ("/reservd.v1.EventService/GetEvent", PUBLIC),
    ("/reservd.v1.EventService/ListEvents", PUBLIC),
    ("/reservd.v1.EventService/GetAvailability", PUBLIC),
    ("/reservd.v1.EventService/BatchGetAvailability", PUBLIC),
    ("/reservd.v1.EventService/ListEventCounts", INSPECT),
    ("/reservd.v1.EventService/VerifyEvent", INSPECT),
    ("/reservd.v1.ReservationService/Reserve", RESERVE),
    ("/reservd.v1.ReservationService/Confirm", RESERVE),
    ("/reservd.v1.ReservationService/Cancel", RESERVE),
    ("/reservd.v1.ReservationService/Extend", RESERVE),
    ("/reservd.v1.ReservationService/Amend", RESERVE),
    ("/reservd.v1.ReservationService/GetReservation", SEE),
    ("/reservd.v1.ReservationService/ListReservations", SEE),
    ("/reservd.v1.ReservationService/SearchReservations", SEE_ALL),
    ("/reservd.v1.FeedService/ListChanges", SEE),
    ("/reservd.v1.FeedService/WatchChanges", SEE_ALL),
    ("/reservd.v1.WaitlistService/JoinWaitlist", RESERVE),
    ("/reservd.v1.WaitlistService/LeaveWaitlist", RESERVE),
    ("/reservd.v1.WaitlistService/AmendWaitlistEntry", RESERVE),
    ("/reservd.v1.WaitlistService/PromoteWaitlistEntry", MANAGE),
    ("/reservd.v1.WaitlistService/GetWaitlistEntry", SEE),
    ("/reservd.v1.WaitlistService/ListWaitlist", SEE),
    ("/reservd.v1.SessionService/CreateSession", GRANT),
    ("/reservd.v1.SessionService/GetCurrentSession", Need::Identity),
    ("/reservd.v1.SessionService/RevokeCurrentSession", Need::Identity),
    ("/reservd.v1.SessionService/GetSession", REVOKE),
    ("/reservd.v1.SessionService/ListSessions", REVOKE),
    ("/reservd.v1.SessionService/RevokeSession", REVOKE),
    ("/reservd.v1.SessionService/RevokeUserSessions", REVOKE),
    ("/reservd.diagnostics.v1alpha1.DiagnosticsService/RunConcurrencyTest", OPERATE),
    ("/reservd.diagnostics.v1alpha1.DiagnosticsService/GetContentionReport", INSPECT),
    ("/reservd.v1.CallerService/GetCaller", Need::Identity),
    ("/grpc.health.v1.Health/Check", Need::Nothing),
    ("/grpc.health.v1.Health/Watch", Need::Nothing),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Identity),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Need::Identity),
];

/// The table as a map.
pub fn by_path() -> HashMap<&'static str, Need> {
    TABLE.iter().copied().collect()
}

impl Need {
    /// The scope that a principal is granted; none if it is denied.
    pub fn grant(self, principal: &Principal) -> Option<Scope> {
        match self {
            Self::Nothing | Self::Identity => Some(Scope::All),
            Self::Role { any, .. } if principal.roles.has_any(any) => Some(Scope::All),
            Self::Role { own: true, .. } if principal.roles.has(Role::User) => {
                principal.user_id.clone().map(Scope::Own)
            }
            Self::Role { .. } => None,
        }
    }

    /// The names of the sufficient roles.
    pub fn role_names(self) -> Vec<&'static str> {
        match self {
            Self::Nothing | Self::Identity => Vec::new(),
            Self::Role { mut any, own } => {
                if own {
                    any.add(Role::User);
                }
                any.names().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
