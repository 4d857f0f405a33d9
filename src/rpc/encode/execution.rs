//! How commands were executed, one by one and in sum.

use super::value::{duration, strategy, timestamp};
use crate::{
    config::Strategy,
    domain::{contention::Advice, time::Timestamp},
    ops::{
        contention::{EventContention, Tally},
        create_events::Created,
        execute::Answer,
    },
    rpc::pb,
};

/// How a command was executed, told at `now`.
pub fn execution(answer: &Answer, now: Timestamp) -> pb::ExecutionReport {
    let stats = &answer.stats;
    pb::ExecutionReport {
        strategy: strategy(stats.strategy).into(),
        attempt_count: i32::try_from(stats.attempts).unwrap_or(i32::MAX),
        lock_wait_duration: Some(duration(stats.lock_wait)),
        event_version: answer.change.final_version(),
        replayed: answer.replayed,
        batch_size: stats.batch_size.cast_signed(),
        server_time: Some(timestamp(now)),
    }
}

/// How an event was created, told at `now`.
pub fn creation(created: &Created, now: Timestamp) -> pb::ExecutionReport {
    pb::ExecutionReport {
        strategy: pb::ExecutionStrategy::Unspecified.into(),
        attempt_count: 1,
        lock_wait_duration: None,
        event_version: created.event.counters.version,
        replayed: created.replayed,
        batch_size: 1,
        server_time: Some(timestamp(now)),
    }
}

pub fn contention(found: &EventContention) -> pb::diagnostics::EventContention {
    let by_strategy = |(used, tally): &(Strategy, Tally)| pb::diagnostics::StrategyContention {
        strategy: strategy(*used).into(),
        command_count: tally.commands.cast_signed(),
        version_conflict_count: tally.conflicts.cast_signed(),
        retry_count: tally.retries.cast_signed(),
        wait_duration_total: Some(duration(tally.waited.0)),
        wait_duration_max: Some(duration(tally.waited.1)),
        batch_size_mean: tally.batch_size.0 as f64 / tally.commands.max(1) as f64,
        batch_size_max: tally.batch_size.1.cast_signed(),
    };
    let best = match found.advice {
        Advice::Coalesced => pb::ExecutionStrategy::Coalesced,
        Advice::Pessimistic => pb::ExecutionStrategy::Pessimistic,
        Advice::Optimistic => pb::ExecutionStrategy::Optimistic,
    };
    pb::diagnostics::EventContention {
        event_id: found.event_id.to_string(),
        strategies: found.by_strategy.iter().map(by_strategy).collect(),
        best_strategy: best.into(),
    }
}
