//! `reservd event export`: writes events as a CSV file, which `reservd event import` reads.

use std::{fs, path::PathBuf};

use clap::Args;

use super::{
    super::{
        call_error::failed,
        event_file::{columns, say_never},
        failure::Failure,
        output::print,
        target::Target,
    },
    filters::Filters,
};
use crate::rpc::pb::{Event, event_service_client::EventServiceClient};

/// Events in one call.
const PAGE: i32 = 1000;

/// The options of `reservd event export`.
#[derive(Debug, Args)]
#[command(after_help = "\
An event must match all filters that are given. docs/CSV.md describes the columns.")]
pub struct Export {
    /// The CSV file to write [default: standard output]
    file: Option<PathBuf>,
    /// Begin with a byte order mark, without which Excel misreads letters such as ü
    #[arg(long)]
    bom: bool,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    target: Target,
}

impl Export {
    /// Exports the events.
    pub async fn run(self) -> Result<(), Failure> {
        let mut events = self.events().await?;
        let csv = self.csv(&mut events)?;
        match &self.file {
            Some(file) => {
                fs::write(file, csv).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
                print(format_args!("{} events exported\n", events.len()))
            }
            None => print(String::from_utf8(csv)?),
        }
    }

    /// All events that match the filters. The labels of all of them are needed for the header line.
    async fn events(&self) -> Result<Vec<Event>, Failure> {
        let mut client = EventServiceClient::new(self.target.connect().await?);
        let (mut events, mut token) = (Vec::new(), String::new());
        loop {
            let page = client.list_events(self.filters.request(PAGE, token)).await.map_err(failed)?.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return Ok(events);
            }
            token = page.next_page_token;
        }
    }

    fn csv(&self, events: &mut [Event]) -> Result<Vec<u8>, Failure> {
        events.iter_mut().for_each(say_never);
        let columns = columns::of_events(events);
        let mut writer = csv::Writer::from_writer(if self.bom { "\u{feff}".into() } else { Vec::new() });
        writer.write_record(columns.iter().map(columns::Column::name))?;
        for event in events {
            writer.write_record(columns.iter().map(|column| column.cell(event)))?;
        }
        Ok(writer.into_inner()?)
    }
}
