//! The time of day, which tokens carry. It decides nothing about reservations: that is PostgreSQL's
//! clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a token's time is the time of day, wherever it was made")]
pub fn now() -> i64 {
    // A clock before 1970 finds every token not yet valid.
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
