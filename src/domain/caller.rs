//! The caller of a command, as the rules and the history see it.

use std::{fmt, sync::Arc};

use super::ids::UserId;

/// The most bytes that an actor's name may have.
pub const MAX_ACTOR_LENGTH: usize = 512;

/// The name of a caller, which the history records with each change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// The name that `text` spells: 1 to [`MAX_ACTOR_LENGTH`] bytes, no control characters, and none that would show
    /// the name otherwise than it is.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=MAX_ACTOR_LENGTH).contains(&text.len()) && !text.contains(is_deceptive);
        good.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, and what has no width, separates lines or changes the direction of text.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The caller of a command, and what it may do. The default has full access and no name: it stands for the ledger
/// itself, and for every caller while authentication is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The caller's name, for the history.
    pub actor: Option<Actor>,
    /// The one user that the caller may act for; any user if none.
    pub only: Option<UserId>,
    /// The limit of live holds across events, if the user of a Reserve has reached it.
    pub hold_limit_reached: Option<u32>,
}

impl Caller {
    /// Whether the caller may see and change this user's reservations and entries.
    pub fn may_act_for(&self, user: &UserId) -> bool {
        self.only.as_ref().is_none_or(|only| only == user)
    }
}
