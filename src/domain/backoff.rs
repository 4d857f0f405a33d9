//! How long to wait before an optimistic attempt is repeated.

use std::time::Duration;

/// Exponential backoff with full jitter: anything from nothing to `base * 2^retry`, at most `cap`.
/// `random` is a number from 0 up to 1.
///
/// Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the
/// variants compared there, full jitter finishes the same work with the fewest calls.
pub fn full_jitter(retry: u32, base: Duration, cap: Duration, random: f64) -> Duration {
    let ceiling = base.saturating_mul(2_u32.saturating_pow(retry)).min(cap);
    ceiling.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let at = |retry| full_jitter(retry, Duration::from_millis(2), Duration::from_millis(100), 1.0).as_millis();
        assert_eq!([at(0), at(1), at(2), at(5), at(6), at(60)], [2, 4, 8, 64, 100, 100]);
    }

    #[test]
    fn jitter_spans_from_nothing_to_the_ceiling() {
        let at = |random| full_jitter(3, Duration::from_millis(1), Duration::from_secs(1), random);
        assert_eq!([at(0.0), at(0.5)], [Duration::ZERO, Duration::from_millis(4)]);
    }
}
