//! Which events a command lists.

use clap::{Args, ValueEnum};
use prost_types::Timestamp;

use super::super::event_file::time;
use crate::rpc::pb::{EventState, ListEventsRequest};

/// The filters of ListEvents. An event must match all that are given.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Only events of this series
    #[arg(long, default_value = "", hide_default_value = true)]
    series: String,
    /// Only events at this venue
    #[arg(long, default_value = "", hide_default_value = true)]
    venue: String,
    /// Only events in this state; may be repeated
    #[arg(long, value_enum)]
    state: Vec<State>,
    /// Only events that start at this time or later, such as 2030-05-01T19:30:00+02:00
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_time_from: Option<Timestamp>,
    /// Only events that start before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_time_before: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Open,
    Closed,
    Cancelled,
}

impl From<State> for i32 {
    fn from(state: State) -> Self {
        match state {
            State::Open => EventState::Open,
            State::Closed => EventState::Closed,
            State::Cancelled => EventState::Cancelled,
        }
        .into()
    }
}

impl Filters {
    /// The request for a page of the events that match.
    pub fn request(&self, page_size: i32, page_token: String) -> ListEventsRequest {
        ListEventsRequest {
            series_id: self.series.clone(),
            venue_id: self.venue.clone(),
            states: self.state.iter().copied().map(i32::from).collect(),
            start_time_from: self.start_time_from,
            start_time_before: self.start_time_before,
            page_size,
            page_token,
        }
    }
}
