//! Who asks, as far as the rules and the history care.

use std::{fmt, sync::Arc};

use super::ids::UserId;

/// The most bytes that an actor's name may have.
pub const MAX_ACTOR_LENGTH: usize = 256;

/// Who did something, by name: what the history tells in answer to "who was it?".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// The name that `text` spells: 1 to [`MAX_ACTOR_LENGTH`] bytes, no control characters.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=MAX_ACTOR_LENGTH).contains(&text.len()) && !text.chars().any(char::is_control);
        good.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who asks for a command, and what that means for it. The default may do everything and has no name:
/// the ledger itself, and callers who are not asked who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Who it is, for the history.
    pub actor: Option<Actor>,
    /// The one user that it may act for; any if none.
    pub only: Option<UserId>,
    /// The limit of live holds that the user of a Reserve has come to across events, if it has.
    pub hold_limit_reached: Option<u32>,
}

impl Caller {
    /// Whether it may see and change what is this user's.
    pub fn may_act_for(&self, user: &UserId) -> bool {
        self.only.as_ref().is_none_or(|only| only == user)
    }
}
