//! When booking of an event closes: a time, or a rule from which it follows.

use crate::{
    domain::booking_close::{Anchor, BookingClose, RelativeTime},
    rpc::{
        fields::Fields,
        pb::{self, booking_close::Rule},
    },
};

/// When booking closes. The rule decides where there is one; `unset` stands for an event that says nothing.
pub fn booking_close(
    fields: &mut Fields,
    time: Option<prost_types::Timestamp>,
    rule: Option<pb::BookingClose>,
    unset: BookingClose,
) -> Option<BookingClose> {
    let time = fields.time("event.booking_close_time", time);
    let Some(rule) = rule else { return Some(time?.map_or(unset, BookingClose::At)) };
    let close = match &rule.rule {
        None => Err(("event.booking_close", "must have start_offset, end_offset or never")),
        Some(Rule::Never(true)) => Ok(BookingClose::Never),
        Some(Rule::Never(false)) => Err(("event.booking_close.never", "must be true where it is set")),
        Some(rule @ Rule::StartOffset(_)) => relative("event.booking_close.start_offset", rule),
        Some(rule @ Rule::EndOffset(_)) => relative("event.booking_close.end_offset", rule),
    };
    let close = close.map_err(|(field, problem)| fields.reject(field, problem)).ok();
    close.filter(|_| time.is_some())
}

fn relative(field: &'static str, rule: &Rule) -> Result<BookingClose, (&'static str, &'static str)> {
    relative_time(rule).map(BookingClose::Relative).ok_or((field, "must be from -366 to 366 days"))
}

/// The relative time that a rule means, if it is one and near enough.
pub fn relative_time(rule: &Rule) -> Option<RelativeTime> {
    match rule {
        Rule::StartOffset(offset) => RelativeTime::new(Anchor::Start, signed_micros(offset)?),
        Rule::EndOffset(offset) => RelativeTime::new(Anchor::End, signed_micros(offset)?),
        Rule::Never(_) => None,
    }
}

/// The microseconds of a duration that may be negative. Digits beyond them are cut off.
fn signed_micros(span: &prost_types::Duration) -> Option<i64> {
    let nanos = i64::from(span.nanos);
    let is_valid = nanos.abs() < 1_000_000_000 && span.seconds.signum() * nanos.signum() >= 0;
    span.seconds.checked_mul(1_000_000)?.checked_add(nanos / 1000).filter(|_| is_valid)
}
