//! Tests of `problems`.

use super::*;

#[test]
fn durations_are_for_people() {
    let day = Duration::from_secs(86_400);
    for (duration, expected) in [
        (3650 * day, "10 years"),
        (366 * day, "366 days"),
        (day, "1 day"),
        (Duration::from_secs(5400), "90 minutes"),
        (Duration::from_secs(90), "90 seconds"),
        (Duration::from_millis(1500), "1500 ms"),
        (Duration::from_micros(1500), "1ms 500us"),
        (Duration::ZERO, "0 ms"),
    ] {
        assert_eq!(in_words(duration), expected);
    }
}
