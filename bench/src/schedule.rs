//! When the arrivals of an open loop are due: at a fixed rate, whether or not earlier ones were served.

use std::time::Duration;

/// A fixed rate from a start on. Arrivals are numbered from 0; times are since the start.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    nanos_apart: f64,
}

impl Schedule {
    /// So many arrivals a second.
    pub fn per_second(rate: f64) -> Self {
        // One a minute is slow enough for any use, and keeps what follows finite.
        Self { nanos_apart: 1e9 / rate.max(1.0 / 60.0) }
    }

    /// When this arrival is due.
    pub fn due_at(&self, number: u64) -> Duration {
        Duration::from_nanos((number as f64 * self.nanos_apart) as u64)
    }

    /// How many arrivals are due once so much time has passed.
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        // Rounding must not let an arrival be late for its own time.
        let mut number = (elapsed.as_nanos() as f64 / self.nanos_apart) as u64;
        while self.due_at(number) <= elapsed {
            number += 1;
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced_from_the_start() {
        let schedule = Schedule::per_second(1000.0);
        assert_eq!(schedule.due_at(0), Duration::ZERO);
        assert_eq!(schedule.due_at(1), Duration::from_millis(1));
        assert_eq!(schedule.due_at(60_000), Duration::from_secs(60));
    }

    #[test]
    fn an_arrival_is_due_at_its_time_and_not_before() {
        for rate in [0.3, 7.0, 333.0, 12_345.6, 250_000.0] {
            let schedule = Schedule::per_second(rate);
            for number in [0, 1, 2, 10, 999, 123_456] {
                let time = schedule.due_at(number);
                assert!(schedule.due_by(time) > number, "{rate}/s: {number} is due at {time:?}");
                if let Some(before) = time.checked_sub(Duration::from_nanos(2)) {
                    assert!(schedule.due_by(before) <= number, "{rate}/s: {number} is not due before {time:?}");
                }
            }
        }
    }

    #[test]
    fn a_rate_holds_over_time() {
        let due = Schedule::per_second(777.7).due_by(Duration::from_secs(1000));
        assert!((777_700..=777_702).contains(&due), "{due}");
    }
}
