//! What callers count, and what becomes of it: the numbers of one measurement.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::machine::CpuShare;

/// The percentiles that tables and plots show.
pub const PERCENTILES: [f64; 8] = [0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];
/// A minute, in microseconds: nothing is waited for longer.
const LONGEST_MICROS: u64 = 60_000_000;

/// What the callers of one measurement counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Microseconds from the intended start to the answer, of successes that were to start in the
    /// measured time.
    pub latency: Histogram<u64>,
    /// Successes that were answered in the measured time.
    pub successes: u64,
    /// What else was answered in the measured time, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Attempts that the successes took.
    pub attempts: u64,
    /// Successes by the size of the batch that they were committed in.
    pub batches: BTreeMap<u32, u64>,
    /// Every success, whenever it was answered: this many changes must be recorded.
    pub acknowledged: u64,
    /// Calls of which it is not known whether they changed anything.
    pub unknown: u64,
}

impl Tally {
    /// Nothing counted.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            latency: new_histogram()?,
            successes: 0,
            failures: BTreeMap::new(),
            attempts: 0,
            batches: BTreeMap::new(),
            acknowledged: 0,
            unknown: 0,
        })
    }

    /// Takes note of a latency.
    pub fn record(&mut self, latency: Duration) {
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST_MICROS));
    }

    /// Adds what others counted.
    pub fn merge(&mut self, other: &Self) {
        // Made with the same bounds, which is all that adding asks for.
        let _ = self.latency.add(&other.latency);
        self.successes += other.successes;
        self.attempts += other.attempts;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        add_all(&mut self.failures, &other.failures);
        add_all(&mut self.batches, &other.batches);
    }
}

/// An empty histogram of microseconds.
pub fn new_histogram() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, 3)
}

/// Adds counts by key.
pub fn add_all<K: Ord + Clone>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key.clone()).or_default() += count;
    }
}

/// One measurement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// In which round, from 1.
    pub round: u32,
    /// Successes a second.
    pub per_second: f64,
    /// Arrivals a second, where these do not wait for answers.
    pub offered_per_second: Option<f64>,
    /// Latency in milliseconds.
    pub latency_ms: Option<Latency>,
    /// What was not a success, by reason, in the measured time.
    pub failures: BTreeMap<String, u64>,
    /// Attempts for each success.
    pub attempts: Option<f64>,
    /// Cores that were busy, and with what.
    pub cpu: Option<CpuShare>,
    /// The server's processor time, user and system, for each call that succeeded, in microseconds.
    pub server_micros_per_call: Option<f64>,
    /// The most memory that the server had resident, in bytes.
    pub server_memory_bytes: Option<u64>,
}

/// A distribution of latencies, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// The distribution in a histogram of microseconds; None where it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |percentile| millis_at(histogram, percentile);
        (!histogram.is_empty()).then(|| Self {
            mean: histogram.mean() / 1000.0,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: at(100.0),
        })
    }
}

/// The latency at a percentile, in milliseconds.
pub fn millis_at(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    histogram.value_at_percentile(percentile) as f64 / 1000.0
}

/// The middle of some values and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; None where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values.len() / 2;
        let lower = (values.len() - 1) / 2;
        Some(Self { median: f64::midpoint(values[lower], values[upper]), min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_rounds_is_their_median_and_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([f64::INFINITY]), None);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn merged_tallies_add_up() {
        let mut one = Tally::new().expect("valid bounds");
        one.record(Duration::from_millis(1));
        one.failures.insert("SOLD_OUT".into(), 2);
        let mut other = one.clone();
        other.record(Duration::from_secs(3600));
        other.successes = 5;
        one.merge(&other);
        assert_eq!((one.latency.len(), one.successes, one.failures["SOLD_OUT"]), (3, 5, 4));
        let latency = Latency::of(&one.latency).expect("three values");
        assert!((latency.p50 - 1.0).abs() < 0.01, "{latency:?}");
        assert!(latency.max >= 59_000.0, "what takes too long is not lost: {latency:?}");
    }
}
