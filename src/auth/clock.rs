//! The system's clock, for the times in tokens and certificates. Only PostgreSQL's clock decides about reservations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a token's times are by the system clock of its issuer")]
pub fn now() -> i64 {
    // With a clock before 1970, no token is valid yet.
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

/// Waits for a time in seconds since 1970. Not in one sleep: the clock may be set meanwhile.
pub async fn reaches(at: i64) {
    const LONGEST: u64 = 3600;
    while let Ok(left @ 1..) = u64::try_from(at.saturating_sub(now())) {
        sleep(Duration::from_secs(left.min(LONGEST))).await;
    }
}
