//! The text of a cell: reading values, with advice where that fails, and writing them.

use prost_types::{Duration, Timestamp};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The most characters of a value in a message.
const MAX_SHOWN: usize = 80;
/// A spreadsheet takes a cell that begins with one of these for a formula, or for text that is not to be changed.
const SPECIAL: [char; 5] = ['=', '+', '-', '@', '\''];

/// A value in quotes, control characters escaped, and cut if it is long.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// The cell for a text: with an apostrophe where a spreadsheet would calculate, and where the text is empty but there.
pub fn protected(text: &str) -> String {
    if text.starts_with(SPECIAL) { format!("'{text}") } else { text.to_owned() }
}

/// The text of a cell: the reverse of [`protected`].
pub fn unprotected(cell: &str) -> Result<&str, String> {
    if cell.starts_with('=') {
        return Err(format!("is a formula; write its value, or {} if it is the text", shown(&format!("'{cell}"))));
    }
    match cell.strip_prefix('\'') {
        Some(text) if text.is_empty() || text.starts_with(SPECIAL) => Ok(text),
        _ => Ok(cell),
    }
}

/// A whole number.
pub fn whole_number(cell: &str) -> Result<i32, String> {
    cell.parse().map_err(|_| {
        if !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()) {
            return "is too large".to_owned();
        }
        let advice = meant_number(cell).unwrap_or_else(|| "digits only, such as 150".to_owned());
        format!("is not a whole number; write {advice}")
    })
}

/// The number that a cell with separators of thousands, or with decimals of zero, stands for.
fn meant_number(cell: &str) -> Option<String> {
    const MARKS: [char; 7] = [',', '.', '\'', '’', ' ', '\u{a0}', '\u{202f}'];
    let parts: Vec<&str> = cell.split(MARKS).collect();
    let (first, rest) = parts.split_first()?;
    let all_digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !parts.iter().all(all_digits) || rest.is_empty() {
        return None;
    }
    let (groups, decimals) = match rest.split_last() {
        Some((last, groups)) if last.len() != 3 && last.bytes().all(|byte| byte == b'0') => (groups, true),
        _ => (rest, false),
    };
    let is_number = groups.iter().all(|group| group.len() == 3) && (decimals || !groups.is_empty());
    is_number.then(|| format!("{first}{}", groups.concat()))
}

/// A time of RFC 3339.
pub fn time(cell: &str) -> Result<Timestamp, String> {
    let time = OffsetDateTime::parse(cell, &Rfc3339).map_err(|_| {
        const ADVICE: &str = "date, hour and offset from UTC as in 2030-05-01T19:30:00+02:00";
        // A local time may mean two moments, and which zone is meant is not in the file.
        let is_local = OffsetDateTime::parse(&format!("{cell}Z"), &Rfc3339).is_ok()
            || OffsetDateTime::parse(&format!("{cell}:00Z"), &Rfc3339).is_ok();
        if is_local {
            format!("has no time zone; write {ADVICE}, or Z for UTC")
        } else if cell.parse::<f64>().is_ok() {
            format!("is a spreadsheet's number for a time; format the cell as text and write {ADVICE}")
        } else {
            format!("is not a time; write {ADVICE}")
        }
    })?;
    Ok(Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond().cast_signed() })
}

/// The text of a time, in UTC.
pub fn time_text(time: Timestamp) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// A duration.
pub fn duration(cell: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(cell).ok().and_then(|span| Duration::try_from(span).ok());
    span.ok_or_else(|| "is not a duration; write it with its unit, as in 90s, 10m or 1h 30m".to_owned())
}

/// The text of a duration.
pub fn duration_text(duration: Duration) -> String {
    let span = std::time::Duration::try_from(duration).unwrap_or_default();
    humantime::format_duration(span).to_string()
}

/// One of some names, in any case, by its value.
pub fn choice<T: Copy>(cell: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(cell));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("is unknown; write {}", names.join(" or "))
    })
}

/// The name of a value; empty if it has none.
pub fn choice_text<T: Copy + PartialEq>(value: T, names: &[(&str, T)]) -> String {
    names.iter().find(|(_, named)| *named == value).map_or_else(String::new, |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests;
