//! The cell that says when booking closes: a time, `never`, or a rule such as `start-30m`.

use super::cells;
use crate::{
    domain::booking_close::RelativeTime,
    rpc::{
        decode, encode,
        pb::{BookingClose, Event, booking_close::Rule},
    },
};

const NEVER: &str = "never";

/// Reads a cell into an event.
pub fn read(event: &mut Event, cell: &str) -> Result<(), String> {
    if cell.eq_ignore_ascii_case(NEVER) {
        event.booking_close = Some(BookingClose { rule: Some(Rule::Never(true)) });
    } else if cell.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let time: RelativeTime = cell.parse().map_err(
            |_| "is not known; write never, start, end, or a duration from one of these, as in start-30m or end+1h",
        )?;
        event.booking_close = Some(encode::booking_close(time));
    } else {
        event.booking_close_time = Some(cells::time(cell)?);
    }
    Ok(())
}

/// Makes an event say nothing.
pub fn clear(event: &mut Event) {
    event.booking_close = None;
    event.booking_close_time = None;
}

/// The text of an event's cell; empty if the event does not say.
pub fn text(event: &Event) -> String {
    match event.booking_close.as_ref().and_then(|close| close.rule.as_ref()) {
        Some(Rule::Never(_)) => NEVER.into(),
        Some(rule) => decode::relative_time(rule).map(String::from).unwrap_or_default(),
        None => event.booking_close_time.map_or_else(String::new, cells::time_text),
    }
}

/// Makes an existing event say that its booking never closes, where that is so: a server's default may differ.
pub fn say_never(event: &mut Event) {
    if event.booking_close_time.is_none() {
        event.booking_close.get_or_insert(BookingClose { rule: Some(Rule::Never(true)) });
    }
}

/// Whether a line leaves it to the server's default, which may have made the existing event what it is. No default is a
/// fixed time.
pub fn is_left_open(existing: &Event, line: &Event) -> bool {
    let is_fixed = existing.booking_close.is_none() && existing.booking_close_time.is_some();
    text(line).is_empty() && !is_fixed
}
