//! `reservd events export`: writes events as a CSV file, which `reservd events import` reads.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use prost_types::Timestamp;

use super::{
    event_file::{columns, time},
    failure::Failure,
    target::Target,
};
use crate::rpc::pb::{Event, EventState, ListEventsRequest, event_service_client::EventServiceClient};

/// Events in one call.
const PAGE: i32 = 1000;

/// The options of `reservd events export`.
#[derive(Debug, Args)]
#[command(after_help = "\
An event must match all filters that are given. docs/CSV.md describes the columns.")]
pub struct Export {
    /// The CSV file to write [default: standard output]
    file: Option<PathBuf>,
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
    /// Begin with a byte order mark, without which Excel misreads letters such as ü
    #[arg(long)]
    bom: bool,
    #[command(flatten)]
    target: Target,
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

impl Export {
    /// Exports the events.
    pub async fn run(self) -> Result<(), Failure> {
        let mut events = self.events().await?;
        let csv = self.csv(&mut events)?;
        match &self.file {
            Some(file) => {
                fs::write(file, csv).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
                println!("{} events exported", events.len());
            }
            None => io::stdout().write_all(&csv).map_err(|error| format!("cannot write: {error}"))?,
        }
        Ok(())
    }

    /// All events that match the filters. The labels of all of them are needed for the header line.
    async fn events(&self) -> Result<Vec<Event>, Failure> {
        let mut client = EventServiceClient::new(self.target.connect().await?);
        let mut request = ListEventsRequest {
            series_id: self.series.clone(),
            venue_id: self.venue.clone(),
            states: self.state.iter().copied().map(i32::from).collect(),
            start_time_from: self.start_time_from,
            start_time_before: self.start_time_before,
            page_size: PAGE,
            page_token: String::new(),
        };
        let mut events = Vec::new();
        loop {
            let page = client.list_events(request.clone()).await.map_err(|status| status.message().to_owned())?;
            let page = page.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return Ok(events);
            }
            request.page_token = page.next_page_token;
        }
    }

    fn csv(&self, events: &mut [Event]) -> Result<Vec<u8>, Failure> {
        let columns = columns::of_events(events);
        let mut writer = csv::Writer::from_writer(if self.bom { "\u{feff}".into() } else { Vec::new() });
        writer.write_record(columns.iter().map(columns::Column::name))?;
        for event in events {
            writer.write_record(columns.iter().map(|column| column.cell(event)))?;
        }
        Ok(writer.into_inner()?)
    }
}
