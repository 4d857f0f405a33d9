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
        let (min, max) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        self.require(range.contains(&value), format!("{key} must be from {min} to {max}"));
    }

    pub(super) fn number(&mut self, key: &str, value: usize, range: RangeInclusive<usize>) {
        self.require(range.contains(&value), format!("{key} must be from {} to {}", range.start(), range.end()));
    }

    /// The length of a text in bytes.
    pub(super) fn length(&mut self, key: &str, text: &str, range: RangeInclusive<usize>) {
        let line = format!("{key} must have from {} to {} bytes", range.start(), range.end());
        self.require(range.contains(&text.len()), line);
    }

    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError(self.0)) }
    }
}
