//! Principals: authenticated callers and their roles.

use std::fmt;

pub use crate::config::Role;
use crate::domain::{caller::Actor, ids::UserId};

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Roles {
    /// A set of these roles.
    pub const fn of(roles: &[Role]) -> Self {
        let (mut set, mut place) = (0, 0);
        while place < roles.len() {
            set |= 1 << roles[place] as u8;
            place += 1;
        }
        Self(set)
    }

    /// Whether the set has the role.
    pub const fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether the sets overlap.
    pub const fn has_any(self, those: Self) -> bool {
        self.0 & those.0 != 0
    }

    /// Adds a role.
    pub const fn add(&mut self, role: Role) {
        self.0 |= 1 << role as u8;
    }

    /// Whether the set has all of `those`.
    pub const fn has_all(self, those: Self) -> bool {
        those.0 & !self.0 == 0
    }

    /// The roles in order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    /// The names of the roles.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Role::name)
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name, prefixed by the kind of its credentials: `token:ann`, `certificate:spiffe://example.org/shop`.
    pub name: Actor,
    /// Its roles.
    pub roles: Roles,
    /// Its user_id; only with the role `user`.
    pub user_id: Option<UserId>,
}
