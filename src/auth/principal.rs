//! Principals: who a caller has shown to be.

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
    /// These roles.
    pub const fn of(roles: &[Role]) -> Self {
        let (mut set, mut place) = (0, 0);
        while place < roles.len() {
            set |= 1 << roles[place] as u8;
            place += 1;
        }
        Self(set)
    }

    /// Whether the role is among them.
    pub const fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether any of those is among them.
    pub const fn has_any(self, those: Self) -> bool {
        self.0 & those.0 != 0
    }

    /// Adds a role.
    pub const fn add(&mut self, role: Role) {
        self.0 |= 1 << role as u8;
    }

    /// Whether those are all among them.
    pub const fn has_all(self, those: Self) -> bool {
        those.0 & !self.0 == 0
    }

    /// They, one by one.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Role::name)
    }
}

/// Who a caller has shown to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name, which tells how it was shown: `token:ann`, `certificate:spiffe://example.org/shop`.
    pub name: Actor,
    /// What it may do.
    pub roles: Roles,
    /// Who it is as a user; for those with the role `user` only.
    pub user_id: Option<UserId>,
}
