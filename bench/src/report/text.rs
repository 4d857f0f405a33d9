//! Numbers as people read them.

use crate::tally::Spread;

/// With a separator between thousands and as many digits as mean something: 12,346 or 7.4.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    if value != 0.0 && value.abs() < 10.0 {
        let digits = if value.abs() < 1.0 { 3 } else { 2 };
        return format!("{value:.digits$}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A median, and where there were several rounds their ends.
pub fn spread(spread: Option<Spread>) -> String {
    match spread {
        None => "-".into(),
        Some(Spread { median, min, max }) if min == max => number(median),
        Some(Spread { median, min, max }) => format!("{} ({} to {})", number(median), number(min), number(max)),
    }
}

/// A percentile's name: p50, p99.9, min, max.
pub fn percentile(percentile: f64) -> String {
    match percentile {
        low if low <= 0.0 => "min".into(),
        high if high >= 100.0 => "max".into(),
        other => format!("p{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        for (value, text) in [
            (0.0, "0.0"),
            (0.1234, "0.123"),
            (7.444, "7.44"),
            (42.25, "42.2"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn percentiles_have_their_usual_names() {
        let names: Vec<_> = crate::tally::PERCENTILES.into_iter().map(percentile).collect();
        assert_eq!(names, ["min", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max"]);
    }

    #[test]
    fn one_round_has_no_spread() {
        assert_eq!(spread(Spread::of([3.0])), "3.00");
        assert_eq!(spread(Spread::of([1.0, 2.0, 4.0])), "2.00 (1.00 to 4.00)");
        assert_eq!(spread(None), "-");
    }
}
