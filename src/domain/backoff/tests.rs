//! Tests of `backoff`.

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
