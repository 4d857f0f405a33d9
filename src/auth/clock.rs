//! The system's clock, for the times in tokens. Only PostgreSQL's clock decides about reservations.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a token's times are by the system clock of its issuer")]
pub fn now() -> i64 {
    // With a clock before 1970, no token is valid yet.
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
