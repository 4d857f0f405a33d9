//! Values of messages as text for people. Times are in UTC, and say so.

use prost_types::Timestamp;
use time::OffsetDateTime;

/// A time to the second; empty if it is unset.
pub fn time(time: Option<Timestamp>) -> String {
    let Some(at) = date_time(time) else { return String::new() };
    let (date, clock) = (at.date(), clock_of(at));
    format!("{}-{:02}-{:02} {clock} UTC", date.year(), u8::from(date.month()), date.day())
}

/// The time of day to the second; empty if it is unset.
pub fn clock(time: Option<Timestamp>) -> String {
    date_time(time).map_or_else(String::new, clock_of)
}

fn clock_of(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

fn date_time(time: Option<Timestamp>) -> Option<OffsetDateTime> {
    time.and_then(|time| OffsetDateTime::from_unix_timestamp(time.seconds).ok())
}

/// The name of an enum's value without the enum's own: HELD of RESERVATION_STATE_HELD.
pub fn name(of_value: &str, of_enum: &str) -> String {
    let name = of_value.strip_prefix(of_enum).unwrap_or(of_value);
    if name == "UNSPECIFIED" { "?".to_owned() } else { name.to_owned() }
}

/// `1 unit`, `2 units`.
pub fn counted(count: i64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
