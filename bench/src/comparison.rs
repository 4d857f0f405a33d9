//! Two builds side by side: what the new one does against the one before, round by round.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    results::{Measured, Results, ratio},
    scenario::{Scenario, Who, strategy_name},
    tally::{Sample, Spread},
};

/// What builds are compared by: its name, and how a sample says it.
type Measure = (&'static str, fn(&Sample) -> Option<f64>);

/// What builds are compared by.
pub const MEASURES: [Measure; 5] = [
    ("successes a second", |sample| Some(sample.per_second)),
    ("p50", |sample| sample.latency_ms.map(|latency| latency.p50)),
    ("p99", |sample| sample.latency_ms.map(|latency| latency.p99)),
    ("server's processor time a call", |sample| sample.server_micros_per_call),
    ("peak resident memory", |sample| sample.server_memory_bytes.map(|bytes| bytes as f64)),
];

/// One measurement of both builds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Compared {
    pub scenario: Scenario,
    pub strategy: &'static str,
    pub callers: u32,
    /// The new build against the one before, by what is measured; one ratio a round.
    pub ratios: BTreeMap<&'static str, Option<Spread>>,
}

/// All that was measured of both builds.
pub fn compare(results: &Results) -> Vec<Compared> {
    let pairs = results.all().iter().filter_map(|new| {
        let Who::Service(strategy) = new.step.who else { return None };
        let before = results.at(new.step.scenario, Who::Before(strategy), new.step.callers)?;
        Some(Compared {
            scenario: new.step.scenario,
            strategy: strategy_name(strategy),
            callers: new.step.callers,
            ratios: ratios(new, before),
        })
    });
    let mut compared: Vec<_> = pairs.collect();
    compared.sort_by_key(|it| (it.scenario, it.strategy, it.callers));
    compared
}

fn ratios(new: &Measured, before: &Measured) -> BTreeMap<&'static str, Option<Spread>> {
    MEASURES.into_iter().map(|(name, measure)| (name, ratio(new, before, measure, measure))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pb::ExecutionStrategy, plan::Step, tally::new_histogram};

    #[test]
    fn builds_are_compared_within_a_round() {
        let mut results = Results::default();
        for (round, slower) in [(1, 1.0), (2, 2.0)] {
            for (who, per_second) in
                [(Who::Service(ExecutionStrategy::Coalesced), 99.0), (Who::Before(ExecutionStrategy::Coalesced), 100.0)]
            {
                let sample = Sample { round, per_second: per_second / slower, ..Sample::default() };
                let step = Step { scenario: Scenario::Hot, who, callers: 64 };
                results.add(step, sample, &new_histogram().expect("valid bounds"), &BTreeMap::new());
            }
        }
        let compared = compare(&results);
        assert_eq!(compared.len(), 1);
        let rate = compared[0].ratios["successes a second"].expect("both were measured");
        assert!([rate.min, rate.median, rate.max].iter().all(|ratio| (ratio - 0.99).abs() < 1e-9), "{rate:?}");
        assert_eq!(compared[0].ratios["p99"], None, "no latency was measured");
    }
}
