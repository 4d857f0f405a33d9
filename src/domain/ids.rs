//! Names of things. A value of one of these types is valid.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the id of a thing that the ledger knows must look like, for error messages.
pub const ID_RULE: &str = "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : @ ~ + -, the first a letter or digit";

/// What a user_id must look like, for error messages. OpenID Connect allows a `sub` of 255 ASCII characters.
pub const USER_ID_RULE: &str = "must be 1 to 255 visible ASCII characters (0x21 to 0x7E)";

/// What a request_id must look like, for error messages.
pub const REQUEST_ID_RULE: &str = "must be 1 to 128 visible ASCII characters (0x21 to 0x7E)";

fn is_id(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:@~+-".contains(&byte))
}

fn is_user_id(text: &str) -> bool {
    is_visible(text, 255)
}

fn is_request_id(text: &str) -> bool {
    is_visible(text, 128)
}

fn is_visible(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $rule:ident, $is_good:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Arc<str>);

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text).ok_or($rule)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().into()
            }
        }

        impl $name {
            #[doc = concat!("The id that `text` spells, if it follows [`", stringify!($rule), "`].")]
            pub fn parse(text: &str) -> Option<Self> {
                $is_good(text).then(|| Self(text.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Names an event; also the shard key of everything about it.
    EventId, ID_RULE, is_id
);
text_id!(
    /// Names a series of events.
    SeriesId, ID_RULE, is_id
);
text_id!(
    /// Names the place of events.
    VenueId, ID_RULE, is_id
);
text_id!(
    /// Names the user for whom a reservation is made; the caller's own id.
    UserId, USER_ID_RULE, is_user_id
);
text_id!(
    /// Makes a call safe to repeat; unique for its event.
    RequestId, REQUEST_ID_RULE, is_request_id
);

impl RequestId {
    /// The id as one user's own: `user id`, which no client can spell, since an id has no space.
    #[must_use]
    pub fn of(&self, user: &UserId) -> Self {
        Self(format!("{user} {}", self.said()).into())
    }

    /// The id that the ledger has on record: a client's, or one user's own.
    pub fn from_record(text: &str) -> Option<Self> {
        let (user, said) = text.split_once(' ').map_or((None, text), |(user, said)| (Some(user), said));
        (is_request_id(said) && user.is_none_or(is_user_id)).then(|| Self(text.into()))
    }

    /// The id as its client said it.
    pub fn said(&self) -> &str {
        self.0.split_once(' ').map_or(&*self.0, |(_, said)| said)
    }
}

/// Names a reservation within its event: a UUID version 7, so ids follow age.
///
/// A waitlist entry has such an id as well, and gives it to the reservation that it becomes. That id
/// is of version 8 in the layout of version 7: so every copy of a reservation tells where it came from,
/// and the tables on the hottest path need no column for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ReservationId(pub Uuid);

impl TryFrom<String> for ReservationId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("must be a UUID in hyphenated form")
    }
}

impl From<ReservationId> for String {
    fn from(id: ReservationId) -> Self {
        id.to_string()
    }
}

impl ReservationId {
    /// The id of an entry of the waitlist that joins when `id`, of version 7, is made.
    #[must_use]
    pub fn of_waitlist(id: Uuid) -> Self {
        Self(Uuid::new_v8(id.into_bytes()))
    }

    /// Whether it is that of a waitlist entry, or of the reservation that one became.
    pub fn is_from_waitlist(self) -> bool {
        self.0.get_version_num() == 8
    }

    /// The id that `text` spells in the hyphenated form.
    pub fn parse(text: &str) -> Option<Self> {
        // Uuid::try_parse also takes braces, URNs and bare digits: one spelling is enough.
        (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which reservation, or waitlist entry, of an event is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one with this id.
    Id(ReservationId),
    /// The user's live or waiting one, or else the newest of those that ended.
    User(UserId),
}

/// A digest of a request's payload: tells a repetition from another request under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// A request_id with the payload that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The caller's id.
    pub id: RequestId,
    /// The payload's digest.
    pub fingerprint: Fingerprint,
}

#[cfg(test)]
mod tests;
