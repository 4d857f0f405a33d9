//! What was measured, and questions to it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{
    plan::Step,
    scenario::{Scenario, Who},
    tally::{self, Sample, Spread},
};

/// The measurements of one step, of all rounds.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Who did what.
    pub step: Step,
    /// One for each round.
    pub samples: Vec<Sample>,
    /// Latencies of all rounds; empty for peers.
    pub latency: Histogram<u64>,
    /// Successes by the size of their batch.
    pub batches: BTreeMap<u32, u64>,
}

impl Measured {
    /// A number of each round, in one.
    pub fn spread(&self, number: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(number))
    }

    /// Successes a second.
    pub fn rate(&self) -> Option<Spread> {
        self.spread(|sample| Some(sample.per_second))
    }

    /// How many were committed together, on average over the commits.
    pub fn mean_batch(&self) -> Option<f64> {
        let successes: u64 = self.batches.values().sum();
        let commits: f64 = self.batches.iter().map(|(size, count)| *count as f64 / f64::from(*size)).sum();
        (commits > 0.0).then(|| successes as f64 / commits)
    }

    /// What was not a success, over all rounds.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        self.samples.iter().for_each(|sample| tally::add_all(&mut all, &sample.failures));
        all
    }
}

/// All measurements, in the order of the first round.
#[derive(Clone, Debug, Default)]
pub struct Results(Vec<Measured>);

impl Results {
    /// Adds a measurement.
    pub fn add(&mut self, step: Step, sample: Sample, latency: &Histogram<u64>, batches: &BTreeMap<u32, u64>) {
        match self.0.iter_mut().find(|measured| measured.step == step) {
            Some(measured) => {
                measured.samples.push(sample);
                // All are made with the same bounds, which is all that adding asks for.
                let _ = measured.latency.add(latency);
                tally::add_all(&mut measured.batches, batches);
            }
            None => self.0.push(Measured {
                step,
                samples: vec![sample],
                latency: latency.clone(),
                batches: batches.clone(),
            }),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Measured] {
        &self.0
    }

    /// Those of a scenario.
    pub fn of(&self, scenario: Scenario) -> impl Iterator<Item = &Measured> {
        self.0.iter().filter(move |measured| measured.step.scenario == scenario)
    }

    /// Those of a scenario and a contender, by the number of callers.
    pub fn by_callers(&self, scenario: Scenario, who: Who) -> Vec<&Measured> {
        let mut found: Vec<_> = self.of(scenario).filter(|measured| measured.step.who == who).collect();
        found.sort_by_key(|measured| measured.step.callers);
        found
    }

    /// The one with so many callers.
    pub fn at(&self, scenario: Scenario, who: Who, callers: u32) -> Option<&Measured> {
        self.by_callers(scenario, who).into_iter().find(|measured| measured.step.callers == callers)
    }

    /// The one with the highest rate, whatever the number of callers.
    pub fn best(&self, scenario: Scenario, who: Who) -> Option<&Measured> {
        let median = |measured: &&Measured| measured.rate().map_or(0.0, |rate| rate.median);
        self.by_callers(scenario, who).into_iter().max_by(|a, b| median(a).total_cmp(&median(b)))
    }

    /// Scenarios that something was measured in, in the order of their definition.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let mut scenarios: Vec<_> = self.0.iter().map(|measured| measured.step.scenario).collect();
        scenarios.sort_unstable();
        scenarios.dedup();
        scenarios
    }

    /// Contenders that something was measured of: the service's strategies first.
    pub fn contenders(&self, scenario: Scenario) -> Vec<Who> {
        let mut contenders: Vec<_> = self.of(scenario).map(|measured| measured.step.who).collect();
        contenders.sort_unstable();
        contenders.dedup();
        contenders
    }
}

/// The ratio of two measurements, round by round, since what slows both down in one round cancels out.
pub fn ratio(
    over: &Measured,
    under: &Measured,
    number: impl Fn(&Sample) -> Option<f64>,
    base: impl Fn(&Sample) -> Option<f64>,
) -> Option<Spread> {
    let pairs = over.samples.iter().filter_map(|sample| {
        let other = under.samples.iter().find(|other| other.round == sample.round)?;
        Some(number(sample)? / base(other)?)
    });
    Spread::of(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Peer;

    fn sample(round: u32, per_second: f64) -> Sample {
        Sample { round, per_second, ..Sample::default() }
    }

    fn add(results: &mut Results, callers: u32, sample: Sample) {
        let step = Step { scenario: Scenario::Hot, who: Who::Peer(Peer::Plain), callers };
        let latency = tally::new_histogram().expect("valid bounds");
        results.add(step, sample, &latency, &BTreeMap::from([(1, 10), (10, 90)]));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut results = Results::default();
        for (round, per_second) in [(1, 100.0), (2, 10.0)] {
            add(&mut results, 1, sample(round, per_second));
            add(&mut results, 8, sample(round, per_second * 3.0));
        }
        let who = Who::Peer(Peer::Plain);
        let best = results.best(Scenario::Hot, who).expect("measured");
        assert_eq!(best.step.callers, 8);
        let one = results.at(Scenario::Hot, who, 1).expect("measured");
        let rate = |sample: &Sample| Some(sample.per_second);
        assert_eq!(ratio(best, one, rate, rate), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
    }

    #[test]
    fn a_mean_batch_is_per_commit_not_per_answer() {
        let mut results = Results::default();
        add(&mut results, 1, sample(1, 1.0));
        // 10 commits of one and 9 of ten.
        let mean = results.all()[0].mean_batch().expect("there were batches");
        assert!((mean - 100.0 / 19.0).abs() < 1e-9, "{mean}");
    }
}
