//! `reservd events import`: the events of a CSV file.
//!
//! Bad lines are reported with their number and reason, good ones kept. A line whose event is there
//! already, as the line says, counts as done: the import can be repeated. [`csv_lines`] reads the lines.

use std::{fmt, fs, path::PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    Failure, csv_lines,
    target::{Target, Wire},
};
use crate::rpc::pb::{
    BatchCreateEventsRequest, CreateEventRequest, Event, GetEventRequest, event_service_client::EventServiceClient,
};

/// Lines sent in one call.
const BATCH: usize = 500;
/// Bad lines that are printed; the others are counted.
const MAX_PRINTED: usize = 50;

/// The options of `reservd events import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The CSV file, with a header line
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// What came of an import.
#[derive(Debug, Default)]
struct Tally {
    created: usize,
    there_already: usize,
    bad: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events created, {} there already, {} lines bad", self.created, self.there_already, self.bad)
    }
}

/// A line that asks for an event, and its number in the file.
struct Wanted {
    number: u64,
    request: CreateEventRequest,
}

/// One import under way.
struct Run {
    client: EventServiceClient<Wire>,
    bar: ProgressBar,
    tally: Tally,
}

impl Import {
    pub async fn run(self) -> Result<(), Failure> {
        let name = self.file.display();
        let file = fs::read(&self.file).map_err(|error| format!("cannot read {name}: {error}"))?;
        let lines = csv_lines::read(&file).map_err(|problem| format!("{name}: {problem}"))?;

        let client = EventServiceClient::new(self.target.connect().await?);
        let mut run = Run { client, bar: progress_bar(), tally: Tally::default() };
        let mut batch = Vec::with_capacity(BATCH);
        for (number, line) in lines {
            match line {
                Ok(request) => batch.push(Wanted { number, request }),
                Err(reason) => run.reject(number, &reason),
            }
            if batch.len() == BATCH {
                run.send(std::mem::take(&mut batch)).await?;
            }
        }
        run.send(batch).await?;
        run.bar.finish_and_clear();
        println!("{}", run.tally);
        if run.tally.bad == 0 { Ok(()) } else { Err(format!("{} bad lines", run.tally.bad).into()) }
    }
}

impl Run {
    /// Creates the events of some lines: together where that works, else one by one, so that one bad
    /// line does not keep its neighbours out.
    async fn send(&mut self, batch: Vec<Wanted>) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let requests = batch.iter().map(|wanted| wanted.request.clone()).collect();
        match self.client.batch_create_events(BatchCreateEventsRequest { requests }).await {
            Ok(response) => {
                let replayed = usize::try_from(response.into_inner().replayed).unwrap_or(0);
                self.tally.there_already += replayed;
                self.tally.created += batch.len() - replayed;
                self.bar.inc(batch.len() as u64);
            }
            Err(status) if is_about_items(status.code()) => {
                for wanted in batch {
                    self.send_one(wanted).await?;
                }
            }
            Err(status) => return Err(status.message().into()),
        }
        Ok(())
    }

    async fn send_one(&mut self, wanted: Wanted) -> Result<(), Failure> {
        let event = wanted.request.event.clone().unwrap_or_default();
        match self.client.create_event(wanted.request).await {
            Ok(response) if response.get_ref().replayed => self.count(|tally| tally.there_already += 1),
            Ok(_) => self.count(|tally| tally.created += 1),
            Err(status) if is_there_already(&status) => {
                let request = GetEventRequest { event_id: event.event_id.clone() };
                let there = self.client.get_event(request).await.map_err(|status| status.message().to_owned())?;
                match difference(&event, &there.into_inner().event.unwrap_or_default()) {
                    None => self.count(|tally| tally.there_already += 1),
                    Some(field) => {
                        self.reject(wanted.number, &format!("event {} is there with another {field}", event.event_id));
                    }
                }
            }
            Err(status) if is_about_items(status.code()) => self.reject(wanted.number, &reasons(&status)),
            Err(status) => return Err(status.message().into()),
        }
        Ok(())
    }

    fn count(&mut self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally);
        self.bar.inc(1);
    }

    fn reject(&mut self, number: u64, reason: &str) {
        self.tally.bad += 1;
        self.bar.inc(1);
        if self.tally.bad <= MAX_PRINTED {
            self.bar.suspend(|| eprintln!("line {number}: {reason}"));
        }
    }
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} lines, {per_sec}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// A field that an event has otherwise than a line says.
fn difference(line: &Event, there: &Event) -> Option<&'static str> {
    [
        ("display_name", line.display_name != there.display_name),
        ("series", line.series != there.series),
        ("venue", line.venue != there.venue),
        ("start_time", line.start_time != there.start_time),
        ("end_time", line.end_time != there.end_time),
        ("capacity", line.capacity != there.capacity),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}

/// Whether an error says that the event exists: made by somebody else, or by an earlier import from
/// another line.
fn is_there_already(status: &tonic::Status) -> bool {
    let reason = status.get_details_error_info().map(|info| info.reason);
    matches!(reason.as_deref(), Some("EVENT_EXISTS" | "REQUEST_ID_REUSED"))
}

/// Whether an error is about what was sent, and not about the way there.
fn is_about_items(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::AlreadyExists)
}

/// Every bad field of an answer, as the CSV names it.
fn reasons(status: &tonic::Status) -> String {
    let fields: Vec<_> = status.get_details_bad_request().map_or_else(Vec::new, |bad| {
        let field = |name: &str| name.strip_prefix("event.").unwrap_or(name).to_owned();
        bad.field_violations.iter().map(|bad| format!("{} {}", field(&bad.field), bad.description)).collect()
    });
    if fields.is_empty() { status.message().to_owned() } else { fields.join("; ") }
}
