//! The bounds of every value, in one place, and the small types that keep to them.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

/// Units of one event.
pub const CAPACITY: RangeInclusive<u32> = 0..=1_000_000_000;
/// Units of one reservation.
pub const QUANTITY: RangeInclusive<u32> = 1..=10_000;
/// How long one hold, or one extension of it, may last.
pub const HOLD_TTL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30 * 24 * 3600);
/// How long a hold lasts where neither Reserve nor the event says.
pub const DEFAULT_HOLD_TTL: Duration = Duration::from_secs(10 * 60);
/// The longest that a hold or an extension may last where the event does not say.
pub const DEFAULT_HOLD_TTL_MAX: Duration = Duration::from_secs(60 * 60);
/// How often one hold may be extended.
pub const EXTENSIONS: RangeInclusive<u32> = 0..=1_000;
/// Entries that may wait for one event at once.
pub const WAITLIST_SIZE: RangeInclusive<u32> = 1..=100_000;
/// Entries that may wait for one event when its policy does not say.
pub const DEFAULT_WAITLIST_SIZE: u32 = 10_000;
/// Entries ahead of one in the waitlist that are counted when its position is asked for.
pub const COUNTED_AHEAD: u32 = 1_000;
/// How often the head of the waitlist may be passed over.
pub const SKIPS: RangeInclusive<u32> = 1..=1_000;
/// The same, for a policy with skips that does not say.
pub const DEFAULT_SKIPS: u32 = 3;
/// Rows of one page.
pub const PAGE_SIZE: RangeInclusive<u32> = 1..=1_000;
/// Rows of a page when the caller does not say.
pub const DEFAULT_PAGE_SIZE: u32 = 100;
/// Items of one batch.
pub const BATCH: RangeInclusive<usize> = 1..=1_000;
/// Characters of an event's display name.
pub const DISPLAY_NAME: usize = 256;
/// Characters of a cancellation's reason.
pub const REASON: usize = 512;
/// Pairs of labels.
pub const LABELS: usize = 32;
/// Characters of a label's key.
pub const LABEL_KEY: usize = 63;
/// Characters of a label's value.
pub const LABEL_VALUE: usize = 256;

/// The caller's own data: keys and values within the bounds above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

/// Whether `text` has at most `max` characters, none of them a control character.
pub fn is_text(text: &str, max: usize) -> bool {
    !text.contains(char::is_control) && text.chars().count() <= max
}

/// Whether `text` has at most `max` characters, none of them a control character but line breaks and tabs.
pub fn is_note(text: &str, max: usize) -> bool {
    let is_refused = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    !text.contains(is_refused) && text.chars().count() <= max
}

/// Whether `key` may name a label.
pub fn is_label_key(key: &str) -> bool {
    (1..=LABEL_KEY).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b))
}

#[cfg(test)]
mod tests;
