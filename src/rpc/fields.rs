//! Checks the fields of a request one by one, and collects every bad one.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use tonic::Status;

use super::status::{self, Violation};
use crate::{
    auth::session_token::SessionId,
    domain::{
        ids::{EventId, ID_RULE, REQUEST_ID_RULE, RequestId, ReservationId, USER_ID_RULE, UserId},
        limits::{self, Labels},
        time::Timestamp,
    },
};

/// A client's text in quotes, with control characters escaped, and cut if it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(limits::LABEL_KEY) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

fn note_rule(max: usize) -> String {
    format!("must be at most {max} characters, none of them a control character but line breaks and tabs")
}

/// The bad fields of one request.
#[derive(Debug, Default)]
pub struct Fields {
    bad: Vec<Violation>,
    prefix: String,
}

impl Fields {
    /// Checks the fields of the message at `prefix` from now on.
    pub fn within(&mut self, prefix: impl Into<String>) {
        self.prefix = prefix.into();
    }

    /// Notes a bad field.
    pub fn reject(&mut self, field: &str, description: impl Into<String>) {
        self.bad.push(Violation { field: format!("{}{field}", self.prefix), description: description.into() });
    }

    /// The request, if no field was bad.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.bad.is_empty() => Ok(value),
            _ => Err(status::invalid(&self.bad)),
        }
    }

    fn parsed<T>(&mut self, field: &str, value: Option<T>, rule: &str) -> Option<T> {
        if value.is_none() {
            self.reject(field, rule);
        }
        value
    }

    pub fn event_id(&mut self, field: &str, text: &str) -> Option<EventId> {
        self.parsed(field, EventId::parse(text), ID_RULE)
    }

    /// The id of a group or place, or none if empty. The outer option is none if it is bad.
    pub fn optional_id<T>(&mut self, field: &str, text: &str, parse: fn(&str) -> Option<T>) -> Option<Option<T>> {
        if text.is_empty() {
            return Some(None);
        }
        self.parsed(field, parse(text), &format!("{ID_RULE}, or empty")).map(Some)
    }

    pub fn user_id(&mut self, field: &str, text: &str) -> Option<UserId> {
        self.parsed(field, UserId::parse(text), USER_ID_RULE)
    }

    pub fn reservation_id(&mut self, field: &str, text: &str) -> Option<ReservationId> {
        self.parsed(field, ReservationId::parse(text), "must be a UUID in hyphenated form")
    }

    pub fn session_id(&mut self, field: &str, text: &str) -> Option<SessionId> {
        self.parsed(field, SessionId::parse(text), "must be 43 characters of base64url, as a session's id has")
    }

    /// A request_id, or none if empty. The outer option is none if it is bad.
    pub fn request_id(&mut self, field: &str, text: &str) -> Option<Option<RequestId>> {
        if text.is_empty() {
            return Some(None);
        }
        self.parsed(field, RequestId::parse(text), &format!("{REQUEST_ID_RULE}, or empty")).map(Some)
    }

    /// An etag, or none if empty. Any text may be an etag; one that the server never made never matches.
    pub fn etag(&mut self, field: &str, text: String) -> Option<Option<String>> {
        if text.len() > 128 {
            self.reject(field, "must be at most 128 characters");
            return None;
        }
        Some((!text.is_empty()).then_some(text))
    }

    /// Text of bounded length.
    pub fn text(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        let good = limits::is_text(&text, max).then_some(text);
        self.parsed(field, good, &format!("must be at most {max} characters, none of them a control character"))
    }

    /// Text of bounded length that may have several lines, or none if empty.
    pub fn optional_note(&mut self, field: &str, text: String, max: usize) -> Option<Option<String>> {
        let good = limits::is_note(&text, max).then_some(text);
        self.parsed(field, good, &note_rule(max)).map(|text| (!text.is_empty()).then_some(text))
    }

    pub fn number(&mut self, field: &str, value: i32, range: &RangeInclusive<u32>) -> Option<u32> {
        let good = u32::try_from(value).ok().filter(|value| range.contains(value));
        self.parsed(field, good, &format!("must be from {} to {}", range.start(), range.end()))
    }

    /// A number, or none if unset.
    pub fn optional_number(
        &mut self,
        field: &str,
        value: Option<i32>,
        range: &RangeInclusive<u32>,
    ) -> Option<Option<u32>> {
        value.map_or(Some(None), |value| self.number(field, value, range).map(Some))
    }

    /// A number, or none if zero, where zero stands for unset.
    pub fn number_or_zero(&mut self, field: &str, value: i32, range: &RangeInclusive<u32>) -> Option<Option<u32>> {
        if value == 0 { Some(None) } else { self.number(field, value, range).map(Some) }
    }

    /// A time, or none if unset. Digits beyond the microsecond are cut off.
    pub fn time(&mut self, field: &str, value: Option<prost_types::Timestamp>) -> Option<Option<Timestamp>> {
        let Some(value) = value else { return Some(None) };
        if !(0..1_000_000_000).contains(&value.nanos) {
            self.reject(field, format!("must have nanos from 0 to 999,999,999, not {}", value.nanos));
            return None;
        }
        let micros = value.seconds.checked_mul(1_000_000);
        let time = micros.and_then(|micros| micros.checked_add(i64::from(value.nanos / 1000)));
        let rule = "must be between 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z";
        self.parsed(field, time.and_then(Timestamp::from_micros), rule).map(Some)
    }

    /// A bound with which times are compared, or none if unset. It is rounded up to the microsecond: a time in
    /// microseconds lies before the one exactly if it lies before the other.
    pub fn bound(&mut self, field: &str, value: Option<prost_types::Timestamp>) -> Option<Option<Timestamp>> {
        let is_cut = value.is_some_and(|value| value.nanos % 1000 != 0);
        let time = self.time(field, value)?;
        Some(time.map(|time| if is_cut { time.after(Duration::from_micros(1)) } else { time }))
    }

    /// A hold's duration, or none if unset.
    pub fn hold_ttl(&mut self, field: &str, value: Option<prost_types::Duration>) -> Option<Option<Duration>> {
        self.span(field, value, &limits::HOLD_TTL)
    }

    /// A duration, or none if unset. Digits beyond the microsecond are cut off.
    pub fn span(
        &mut self,
        field: &str,
        value: Option<prost_types::Duration>,
        range: &RangeInclusive<Duration>,
    ) -> Option<Option<Duration>> {
        let Some(value) = value else { return Some(None) };
        let seconds = u64::try_from(value.seconds).ok();
        let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let span = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos / 1000 * 1000));
        let good = span.filter(|span| range.contains(span));
        let (min, max) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        self.parsed(field, good, &format!("must be from {min} to {max}")).map(Some)
    }

    pub fn labels(&mut self, field: &str, pairs: BTreeMap<String, String>) -> Option<Labels> {
        let before = self.bad.len();
        if pairs.len() > limits::LABELS {
            self.reject(field, format!("must be at most {} pairs", limits::LABELS));
        }
        for (key, value) in &pairs {
            if !limits::is_label_key(key) {
                self.reject(
                    field,
                    format!("key {} must be 1 to 63 characters of a-z, 0-9, '.', '_', '/' and '-'", quoted(key)),
                );
            } else if !limits::is_note(value, limits::LABEL_VALUE) {
                self.reject(&format!("{field}[{key}]"), note_rule(limits::LABEL_VALUE));
            }
        }
        (self.bad.len() == before).then_some(Labels(pairs))
    }

    /// How many rows a page has.
    pub fn page_size(&mut self, value: i32) -> Option<u32> {
        let size = self.number_or_zero("page_size", value, &limits::PAGE_SIZE)?;
        Some(size.unwrap_or(limits::DEFAULT_PAGE_SIZE))
    }

    /// Whether a batch has an allowed number of items.
    pub fn batch(&mut self, field: &str, items: usize) -> Option<()> {
        let good = limits::BATCH.contains(&items).then_some(());
        self.parsed(field, good, &format!("must have {} to {} items", limits::BATCH.start(), limits::BATCH.end()))
    }

    /// A value of an enum that is known and not the unspecified one.
    pub fn known<E: TryFrom<i32> + Default + PartialEq>(&mut self, field: &str, value: i32) -> Option<E> {
        let good = E::try_from(value).ok().filter(|value| *value != E::default());
        self.parsed(field, good, "must be one of the values that the API defines")
    }
}
