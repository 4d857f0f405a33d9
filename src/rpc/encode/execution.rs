//! How commands were executed, one by one and in sum.

use super::value::{duration, strategy};
use crate::{
    config::Strategy,
    domain::contention::Advice,
    ops::{
        contention::{EventContention, Tally},
        execute::Answer,
    },
    rpc::pb,
};

pub fn execution(answer: &Answer) -> pb::ExecutionReport {
    let stats = &answer.stats;
    pb::ExecutionReport {
        strategy: strategy(stats.strategy).into(),
        attempts: i32::try_from(stats.attempts).unwrap_or(i32::MAX),
        lock_wait: Some(duration(stats.lock_wait)),
        event_version: answer.change.version,
        replayed: answer.replayed,
        batch_size: stats.batch_size.cast_signed(),
    }
}

pub fn contention(found: &EventContention) -> pb::EventContention {
    let by_strategy = |(used, tally): &(Strategy, Tally)| pb::StrategyContention {
        strategy: strategy(*used).into(),
        commands: tally.commands.cast_signed(),
        version_conflicts: tally.conflicts.cast_signed(),
        retries: tally.retries.cast_signed(),
        wait_total: Some(duration(tally.waited.0)),
        wait_max: Some(duration(tally.waited.1)),
        batch_size_mean: tally.batch_size.0 as f64 / tally.commands.max(1) as f64,
        batch_size_max: tally.batch_size.1.cast_signed(),
    };
    let best = match found.advice {
        Advice::Coalesced => pb::Strategy::Coalesced,
        Advice::Pessimistic => pb::Strategy::Pessimistic,
        Advice::Optimistic => pb::Strategy::Optimistic,
    };
    pb::EventContention {
        event_id: found.event_id.to_string(),
        strategies: found.by_strategy.iter().map(by_strategy).collect(),
        best_strategy: best.into(),
    }
}
