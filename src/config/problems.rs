//! The list of what is wrong with the settings.

use std::{ops::RangeInclusive, time::Duration};

/// What is wrong with the settings, one line each.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Collects problems, so that one start reports all of them.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    /// Adds `line` unless the condition holds.
    pub(super) fn require(&mut self, holds: bool, line: impl Into<String>) {
        if !holds {
            self.0.push(line.into());
        }
    }

    pub(super) fn duration(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        let [min, max, is] = [*range.start(), *range.end(), value].map(in_words);
        self.require(range.contains(&value), format!("{key} must be from {min} to {max}, and is {is}"));
    }

    pub(super) fn number(&mut self, key: &str, value: usize, range: RangeInclusive<usize>) {
        let line = format!("{key} must be from {} to {}, and is {value}", range.start(), range.end());
        self.require(range.contains(&value), line);
    }

    /// The length of a text in bytes.
    pub(super) fn length(&mut self, key: &str, text: &str, range: RangeInclusive<usize>) {
        let line = format!("{key} must have from {} to {} bytes, and has {}", range.start(), range.end(), text.len());
        self.require(range.contains(&text.len()), line);
    }

    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError(self.0)) }
    }
}

/// A duration in the largest unit of which it is a whole number: `10 years`, `90 seconds`, `250 ms`.
fn in_words(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] =
        [(365 * 86_400_000, "year"), (86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second")];
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    match unit.map(|(unit, name)| (millis / unit, name)) {
        Some((1, name)) => format!("1 {name}"),
        Some((count, name)) => format!("{count} {name}s"),
        None if duration.subsec_nanos().is_multiple_of(1_000_000) => format!("{millis} ms"),
        None => humantime::format_duration(duration).to_string(),
    }
}

#[cfg(test)]
mod tests;
