//! How long to wait before an attempt is repeated.

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
mod tests;
