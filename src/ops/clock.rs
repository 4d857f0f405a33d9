//! The service's clock: PostgreSQL's, as last read, carried on by the local one.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use crate::domain::time::Timestamp;

/// PostgreSQL's clock without a question to it, for what is told and not decided: answers carry the time so that
/// clients can count down to an expire_time. It is as exact as a round trip; decisions read PostgreSQL's own.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// PostgreSQL's time at `origin`, in microseconds since 1970.
    micros_at_origin: AtomicI64,
}

impl Default for Clock {
    /// Shows the system's time until PostgreSQL's is known.
    #[allow(clippy::disallowed_methods, reason = "nothing is decided by it")]
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), micros_at_origin: AtomicI64::new(micros(now)) }
    }
}

impl Clock {
    /// Sets the clock to PostgreSQL's time, which was just read.
    pub fn set(&self, now: Timestamp) {
        self.micros_at_origin.store(now.micros() - micros(self.origin.elapsed()), Ordering::Relaxed);
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let micros = self.micros_at_origin.load(Ordering::Relaxed) + micros(self.origin.elapsed());
        Timestamp::from_micros(micros).unwrap_or(Timestamp::MAX)
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
