//! Events as rows of a table.

use super::super::{
    table::{Column, Table},
    text,
};
use crate::rpc::pb::{Event, EventState};

/// An empty table of events.
pub fn table() -> Table {
    Table::new(&[
        Column::Text("EVENT"),
        Column::Text("STATE"),
        Column::Text("START"),
        Column::Number("CAPACITY"),
        Column::Number("HELD"),
        Column::Number("CONFIRMED"),
        Column::Number("FREE"),
        Column::Number("WAITING"),
        Column::Text("NAME"),
    ])
}

/// The row of an event.
pub fn row(event: &Event) -> Vec<String> {
    let counts = event.counts.unwrap_or_default();
    vec![
        event.event_id.clone(),
        name_of_state(event.state()),
        text::time(event.start_time),
        counts.capacity.to_string(),
        counts.held.to_string(),
        counts.confirmed.to_string(),
        counts.available.to_string(),
        counts.waiting.to_string(),
        event.display_name.clone(),
    ]
}

/// A table of one event.
pub fn table_of(event: &Event) -> Table {
    let mut table = table();
    table.row(row(event));
    table
}

/// The name of a state.
pub fn name_of_state(state: EventState) -> String {
    text::name(state.as_str_name(), "EVENT_STATE_")
}
