//! Times, durations and strategies.

use std::time::Duration;

use crate::{config::Strategy, domain::time::Timestamp, rpc::pb};

pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    // Less than a million, times a thousand: an i32 has room.
    let nanos = micros.rem_euclid(1_000_000) as i32 * 1000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos().cast_signed(),
    }
}

/// The duration of so many microseconds, which may be negative.
pub fn signed_duration(micros: i64) -> prost_types::Duration {
    // Less than a million, times a thousand: an i32 has room.
    prost_types::Duration { seconds: micros / 1_000_000, nanos: (micros % 1_000_000) as i32 * 1000 }
}

pub fn strategy(strategy: Strategy) -> pb::ExecutionStrategy {
    match strategy {
        Strategy::Pessimistic => pb::ExecutionStrategy::Pessimistic,
        Strategy::Optimistic => pb::ExecutionStrategy::Optimistic,
        Strategy::Coalesced => pb::ExecutionStrategy::Coalesced,
    }
}
