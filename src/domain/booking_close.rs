//! When booking of an event closes: never, at a fixed time, or at a time that follows from the event's own.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// How far from its anchor a relative time may be.
pub const MAX_OFFSET: Duration = Duration::from_secs(366 * 24 * 3600);

/// When booking of an event closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BookingClose {
    /// Never.
    #[default]
    Never,
    /// At this moment.
    At(Timestamp),
    /// At a moment that moves with the event's times.
    Relative(RelativeTime),
}

impl BookingClose {
    /// The moment, for an event that starts and ends then. None: booking does not close, or not while the event lacks
    /// the time from which the moment follows.
    pub fn time(self, start: Option<Timestamp>, end: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::At(time) => Some(time),
            Self::Relative(RelativeTime { anchor: Anchor::Start, offset }) => start.map(|start| start.moved_by(offset)),
            Self::Relative(RelativeTime { anchor: Anchor::End, offset }) => end.map(|end| end.moved_by(offset)),
        }
    }

    /// The relative time, if it is one.
    pub const fn relative(self) -> Option<RelativeTime> {
        match self {
            Self::Relative(time) => Some(time),
            Self::Never | Self::At(_) => None,
        }
    }
}

/// A moment as the distance from the start or the end of an event. Its text is `start`, `end`, `start-30m` or
/// `end+1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RelativeTime {
    /// From where it counts.
    pub anchor: Anchor,
    /// Microseconds after the anchor; negative: before it. At most [`MAX_OFFSET`] either way.
    offset: i64,
}

/// A time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// `start_time`.
    Start,
    /// `end_time`.
    End,
}

impl RelativeTime {
    /// So many microseconds after the anchor, or before it if they are negative. None: it is too far away.
    pub fn new(anchor: Anchor, offset: i64) -> Option<Self> {
        let is_near = u128::from(offset.unsigned_abs()) <= MAX_OFFSET.as_micros();
        is_near.then_some(Self { anchor, offset })
    }

    /// Microseconds after the anchor; negative: before it.
    pub const fn offset(self) -> i64 {
        self.offset
    }
}

impl fmt::Display for RelativeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.anchor {
            Anchor::Start => "start",
            Anchor::End => "end",
        })?;
        let span = humantime::format_duration(Duration::from_micros(self.offset.unsigned_abs()));
        match self.offset {
            0 => Ok(()),
            1.. => write!(f, "+{span}"),
            _ => write!(f, "-{span}"),
        }
    }
}

impl FromStr for RelativeTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_lowercase();
        let from_start = text.strip_prefix("start").map(|rest| (Anchor::Start, rest));
        let parsed = from_start.or_else(|| text.strip_prefix("end").map(|rest| (Anchor::End, rest)));
        let parsed = parsed.and_then(|(anchor, rest)| Self::new(anchor, signed_micros(rest.trim())?));
        parsed.ok_or("must be start or end, alone or with a duration of at most 366 days, as in start-30m or end+1h")
    }
}

/// The microseconds of a duration with its sign. Empty: none.
fn signed_micros(text: &str) -> Option<i64> {
    let micros = |span: &str| i64::try_from(humantime::parse_duration(span).ok()?.as_micros()).ok();
    match text.split_at_checked(1) {
        None => Some(0),
        Some(("+", span)) => micros(span),
        Some(("-", span)) => micros(span).map(|micros| -micros),
        Some(_) => None,
    }
}

impl From<RelativeTime> for String {
    fn from(time: RelativeTime) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for RelativeTime {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests;
