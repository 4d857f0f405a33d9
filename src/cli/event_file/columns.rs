//! The columns of a file of events, in one table. It is the only place where files meet the API's messages.

use std::collections::BTreeSet;

use prost_types::{Duration, Timestamp};
use tonic::Status;
use tonic_types::StatusExt;

use self::Access::{Choice, Close, Count, Note, OptionalCount, Span, Text, Time, Word};
use super::{cells, closing};
use crate::{
    domain::{
        booking_close::BookingClose,
        event::{Counters, Event as StoredEvent, EventState as StoredState},
        limits,
        time::Timestamp as StoredTime,
    },
    rpc::{
        decode, encode,
        pb::{CreateEventRequest, Event, EventLimits, EventState, WaitlistOrder, WaitlistPolicy},
    },
};

/// How a column reads and writes its value of an event.
enum Access {
    /// A text in which blanks count.
    Text(fn(&mut Event) -> &mut String),
    /// A text in which blanks count, and which may have several lines.
    Note(fn(&mut Event) -> &mut String),
    /// A text without blanks around it.
    Word(fn(&mut Event) -> &mut String),
    Count(fn(&mut Event) -> &mut i32),
    OptionalCount(fn(&mut Event) -> &mut Option<i32>),
    Time(fn(&mut Event) -> &mut Option<Timestamp>),
    /// When booking closes: a time, or the rule from which it follows.
    Close,
    Span(fn(&mut Event) -> &mut Option<Duration>),
    Flag(fn(&mut Event) -> &mut bool),
    Choice(&'static [(&'static str, i32)], fn(&mut Event) -> &mut i32),
}

/// A column with a field of its own: its name and its access.
pub struct Field(&'static str, Access);

const STATES: [(&str, i32); 3] = [
    ("OPEN", EventState::Open as i32),
    ("CLOSED", EventState::Closed as i32),
    ("CANCELLED", EventState::Cancelled as i32),
];
const ORDERS: [(&str, i32); 2] =
    [("STRICT_FIFO", WaitlistOrder::StrictFifo as i32), ("SKIP_TOO_LARGE", WaitlistOrder::SkipTooLarge as i32)];
const FLAGS: [(&str, bool); 4] = [("true", true), ("false", false), ("yes", true), ("no", false)];

/// Every column except those of labels, in the order of an export.
static FIELDS: [Field; 24] = [
    Field("event_id", Word(|event| &mut event.event_id)),
    Field("capacity", Count(|event| &mut event.capacity)),
    Field("display_name", Text(|event| &mut event.display_name)),
    Field("series_id", Word(|event| &mut event.series_id)),
    Field("series_display_name", Text(|event| &mut event.series_display_name)),
    Field("venue_id", Word(|event| &mut event.venue_id)),
    Field("venue_display_name", Text(|event| &mut event.venue_display_name)),
    Field("start_time", Time(|event| &mut event.start_time)),
    Field("end_time", Time(|event| &mut event.end_time)),
    Field("booking_open_time", Time(|event| &mut event.booking_open_time)),
    Field("booking_close_time", Close),
    Field("max_quantity", OptionalCount(|event| &mut event_limits(event).max_quantity)),
    Field("hold_ttl_default", Span(|event| &mut event_limits(event).hold_ttl_default)),
    Field("hold_ttl_max", Span(|event| &mut event_limits(event).hold_ttl_max)),
    Field("max_extensions", OptionalCount(|event| &mut event_limits(event).max_extensions)),
    Field("waitlist_enabled", Access::Flag(|event| &mut waitlist(event).enabled)),
    Field("waitlist_max_size", OptionalCount(|event| &mut waitlist(event).max_size)),
    Field("waitlist_offer_ttl", Span(|event| &mut waitlist(event).offer_ttl)),
    Field("waitlist_order", Choice(&ORDERS, |event| &mut waitlist(event).order)),
    Field("waitlist_max_skips", OptionalCount(|event| &mut waitlist(event).max_skips)),
    Field("waitlist_newcomers_may_overtake", Access::Flag(|event| &mut waitlist(event).newcomers_may_overtake)),
    Field("waitlist_join_before_booking", Access::Flag(|event| &mut waitlist(event).join_before_booking)),
    Field("state", Choice(&STATES, |event| &mut event.state)),
    Field("cancel_reason", Note(|event| &mut event.cancel_reason)),
];

/// The columns without which a file can't be imported.
pub const REQUIRED: [&str; 2] = ["event_id", "capacity"];

fn event_limits(event: &mut Event) -> &mut EventLimits {
    event.limits.get_or_insert_default()
}

fn waitlist(event: &mut Event) -> &mut WaitlistPolicy {
    event.waitlist.get_or_insert_default()
}

/// A column.
#[derive(Clone)]
pub enum Column {
    /// One of the table.
    Field(&'static Field),
    /// The label of a key.
    Label(String),
}

impl Column {
    /// The column of a header; case, blanks, hyphens and underscores do not matter.
    pub fn of(header: &str) -> Option<Self> {
        let header = header.trim().to_lowercase();
        if let Some(key) = header.strip_prefix("label.") {
            return limits::is_label_key(key).then(|| Self::Label(key.to_owned()));
        }
        let letters = |name: &str| name.replace(|c: char| c.is_whitespace() || c == '_' || c == '-', "");
        FIELDS.iter().find(|Field(name, _)| letters(name) == letters(&header)).map(Self::Field)
    }

    /// The name, as an export writes it.
    pub fn name(&self) -> String {
        match self {
            Self::Field(Field(name, _)) => (*name).to_owned(),
            Self::Label(key) => format!("label.{key}"),
        }
    }

    /// Sets the value of an event. An empty cell leaves the default.
    pub fn read(&self, event: &mut Event, cell: &str) -> Result<(), String> {
        let is_note = matches!(self, Self::Field(Field(_, Note(_))) | Self::Label(_));
        let keeps_blanks = is_note || matches!(self, Self::Field(Field(_, Text(_))));
        let cell = if keeps_blanks { cell } else { cell.trim() };
        if cell.is_empty() {
            let is_required = REQUIRED.contains(&self.name().as_str());
            return if is_required { Err("is empty, but every event needs it".into()) } else { Ok(()) };
        }
        let cell = cells::unprotected(cell)?;
        let is_clean = if is_note { limits::is_note(cell, usize::MAX) } else { !cell.contains(char::is_control) };
        if !is_clean {
            return Err("has a line break or another control character in it; remove it".into());
        }
        match self {
            Self::Label(key) => drop(event.labels.insert(key.clone(), cell.to_owned())),
            Self::Field(Field(_, access)) => match access {
                Text(of) | Note(of) | Word(of) => cell.clone_into(of(event)),
                Count(of) => *of(event) = cells::whole_number(cell)?,
                OptionalCount(of) => *of(event) = Some(cells::whole_number(cell)?),
                Time(of) => *of(event) = Some(cells::time(cell)?),
                Close => closing::read(event, cell)?,
                Span(of) => *of(event) = Some(cells::duration(cell)?),
                Access::Flag(of) => *of(event) = cells::choice(cell, &FLAGS)?,
                Choice(names, of) => *of(event) = cells::choice(cell, names)?,
            },
        }
        Ok(())
    }

    /// Sets the value of an event to its default.
    pub fn clear(&self, event: &mut Event) {
        match self {
            Self::Label(key) => drop(event.labels.remove(key)),
            Self::Field(Field(_, access)) => match access {
                Text(of) | Note(of) | Word(of) => of(event).clear(),
                Count(of) | Choice(_, of) => *of(event) = 0,
                OptionalCount(of) => *of(event) = None,
                Time(of) => *of(event) = None,
                Close => closing::clear(event),
                Span(of) => *of(event) = None,
                Access::Flag(of) => *of(event) = false,
            },
        }
    }

    /// What its values are, for the help of a command.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Label(_) | Self::Field(Field(_, Text(_) | Note(_))) => "TEXT",
            Self::Field(Field(_, Word(_))) => "ID",
            Self::Field(Field(_, Count(_) | OptionalCount(_))) => "N",
            Self::Field(Field(_, Time(_))) => "TIME",
            Self::Field(Field(_, Close)) => "TIME|RULE",
            Self::Field(Field(_, Span(_))) => "DURATION",
            Self::Field(Field(_, Access::Flag(_))) => "true|false",
            Self::Field(Field(_, Choice(..))) => "CHOICE",
        }
    }

    /// The text of an event's value. Limits and a waitlist policy that are unset become default ones.
    pub fn text(&self, event: &mut Event) -> String {
        match self {
            Self::Label(key) => event.labels.get(key).cloned().unwrap_or_default(),
            Self::Field(Field(_, access)) => match access {
                Text(of) | Note(of) | Word(of) => of(event).clone(),
                Count(of) => of(event).to_string(),
                OptionalCount(of) => of(event).map_or_else(String::new, |count| count.to_string()),
                Time(of) => of(event).map_or_else(String::new, cells::time_text),
                Close => closing::text(event),
                Span(of) => of(event).map_or_else(String::new, cells::duration_text),
                Access::Flag(of) => cells::choice_text(*of(event), &FLAGS),
                Choice(names, of) => cells::choice_text(*of(event), names),
            },
        }
    }

    /// The cell of an event.
    pub fn cell(&self, event: &mut Event) -> String {
        let text = self.text(event);
        match self {
            // An empty cell would be no label.
            Self::Label(key) if text.is_empty() && event.labels.contains_key(key) => "'".into(),
            _ => cells::protected(&text),
        }
    }

    /// A value as a message shows it.
    fn shown(&self, event: &mut Event) -> String {
        match (self, self.text(event)) {
            (_, text) if text.is_empty() => "empty".into(),
            (Self::Label(_) | Self::Field(Field(_, Text(_) | Note(_))), text) => cells::shown(&text),
            (_, text) => text,
        }
    }
}

/// The names of all columns, for messages.
pub fn known() -> String {
    let names: Vec<_> = FIELDS.iter().map(|Field(name, _)| *name).collect();
    format!("{} and, for each label, label.KEY", names.join(", "))
}

/// The columns for an export of these events.
pub fn of_events(events: &[Event]) -> Vec<Column> {
    let keys: BTreeSet<_> = events.iter().flat_map(|event| event.labels.keys()).collect();
    FIELDS.iter().map(Column::Field).chain(keys.into_iter().cloned().map(Column::Label)).collect()
}

/// The request that creates an event. An event that is to be cancelled begins closed.
pub fn request(event: &Event) -> CreateEventRequest {
    let start_closed = matches!(event.state(), EventState::Closed | EventState::Cancelled);
    CreateEventRequest { event: Some(event.clone()), start_closed, ..Default::default() }
}

/// Whether an event is cancelled.
pub fn is_cancelled(event: &Event) -> bool {
    event.state() == EventState::Cancelled
}

/// The event as the server will store it, defaults included; or the columns that break a rule, each with the rule.
pub fn as_stored(event: Event) -> Result<Event, Vec<(String, String)>> {
    let (new, _) =
        decode::event::create_event(request(&event), BookingClose::Never).map_err(|status| violations(&status))?;
    let reason = match event.cancel_reason.as_str() {
        "" => None,
        _ if !is_cancelled(&event) => Some("is for events of state CANCELLED only".to_owned()),
        reason if !limits::is_note(reason, limits::REASON) => Some(format!(
            "must be at most {} characters, none of them a control character but line breaks and tabs",
            limits::REASON
        )),
        _ => None,
    };
    if let Some(rule) = reason {
        return Err(vec![("cancel_reason".into(), rule)]);
    }
    let stored = encode::event(
        &StoredEvent {
            id: new.id,
            definition: new.definition,
            state: StoredState::Open,
            cancel_reason: None,
            counters: Counters::default(),
            definition_version: 0,
            create_time: StoredTime::MIN,
            update_time: StoredTime::MIN,
        },
        None,
    );
    let state = if event.state == 0 { EventState::Open.into() } else { event.state };
    Ok(Event { state, cancel_reason: event.cancel_reason, booking_close: event.booking_close, ..stored })
}

/// The columns that a status is about, each with the rule that it breaks.
fn violations(status: &Status) -> Vec<(String, String)> {
    let bad = status.get_details_bad_request().map_or_else(Vec::new, |bad| bad.field_violations);
    bad.into_iter().map(|bad| (name_of(&bad.field), bad.description.replace("limits.", ""))).collect()
}

/// The column of a field of CreateEventRequest.
fn name_of(field: &str) -> String {
    let field = field.strip_prefix("event.").unwrap_or(field);
    if let Some(key) = field.strip_prefix("labels[").and_then(|rest| rest.strip_suffix(']')) {
        return format!("label.{key}");
    }
    if field.starts_with("booking_close") {
        return "booking_close_time".to_owned();
    }
    field.strip_prefix("limits.").unwrap_or(field).replace("waitlist.", "waitlist_")
}

/// How an existing event differs from its line, in these columns.
pub fn differences(columns: &[Column], existing: &mut Event, line: &mut Event) -> Vec<String> {
    let mut differences = Vec::new();
    closing::say_never(existing);
    for column in columns {
        let is_left_open = matches!(column, Column::Field(Field(_, Close))) && closing::is_left_open(existing, line);
        if !is_left_open && column.cell(existing) != column.cell(line) {
            let (is, says) = (column.shown(existing), column.shown(line));
            differences.push(format!("{} is {is}, the line says {says}", column.name()));
        }
    }
    differences
}

#[cfg(test)]
mod tests;
