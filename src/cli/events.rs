//! `reservd events import`: creates the events of a CSV file.
//!
//! Reports each bad line with its number and reason, and imports the others. A line whose event exists with the same
//! fields counts as done, so the import can be repeated. [`csv_lines`] reads the lines.

use std::{fmt, fs, path::PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    csv_lines,
    failure::Failure,
    target::{Target, Wire},
};
use crate::rpc::pb::{
    BatchCreateEventsRequest, CreateEventRequest, Event, GetEventRequest, event_service_client::EventServiceClient,
};

/// Lines in one call.
const BATCH: usize = 500;
/// Bad lines that are printed; further ones are only counted.
const MAX_PRINTED: usize = 50;

/// The options of `reservd events import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The CSV file, with a header line
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// The result of an import.
#[derive(Debug, Default)]
struct Tally {
    created: usize,
    existing: usize,
    bad: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events created, {} existing, {} bad lines", self.created, self.existing, self.bad)
    }
}

/// A line of the file and its request.
struct Line {
    number: u64,
    request: CreateEventRequest,
}

/// A running import.
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
                Ok(request) => batch.push(Line { number, request }),
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
    /// Creates the events of some lines together, or one by one if that fails, so that one bad line does not affect the
    /// others.
    async fn send(&mut self, batch: Vec<Line>) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let requests = batch.iter().map(|line| line.request.clone()).collect();
        match self.client.batch_create_events(BatchCreateEventsRequest { requests }).await {
            Ok(response) => {
                let replayed = usize::try_from(response.into_inner().replayed).unwrap_or(0);
                self.tally.existing += replayed;
                self.tally.created += batch.len() - replayed;
                self.bar.inc(batch.len() as u64);
            }
            Err(status) if is_about_items(status.code()) => {
                for line in batch {
                    self.send_one(line).await?;
                }
            }
            Err(status) => return Err(status.message().into()),
        }
        Ok(())
    }

    async fn send_one(&mut self, line: Line) -> Result<(), Failure> {
        let event = line.request.event.clone().unwrap_or_default();
        match self.client.create_event(line.request).await {
            Ok(response) if response.get_ref().replayed => self.count(|tally| tally.existing += 1),
            Ok(_) => self.count(|tally| tally.created += 1),
            Err(status) if already_exists(&status) => {
                let request = GetEventRequest { event_id: event.event_id.clone() };
                let existing = self.client.get_event(request).await.map_err(|status| status.message().to_owned())?;
                match difference(&event, &existing.into_inner().event.unwrap_or_default()) {
                    None => self.count(|tally| tally.existing += 1),
                    Some(field) => {
                        self.reject(line.number, &format!("event {} exists with another {field}", event.event_id));
                    }
                }
            }
            Err(status) if is_about_items(status.code()) => self.reject(line.number, &reasons(&status)),
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

/// The first field in which an event differs from its line.
fn difference(line: &Event, existing: &Event) -> Option<&'static str> {
    [
        ("display_name", line.display_name != existing.display_name),
        ("series", line.series != existing.series),
        ("venue", line.venue != existing.venue),
        ("start_time", line.start_time != existing.start_time),
        ("end_time", line.end_time != existing.end_time),
        ("capacity", line.capacity != existing.capacity),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}

/// Whether the event exists: created otherwise, or by an earlier import of another line.
fn already_exists(status: &tonic::Status) -> bool {
    let reason = status.get_details_error_info().map(|info| info.reason);
    matches!(reason.as_deref(), Some("EVENT_EXISTS" | "REQUEST_ID_REUSED"))
}

/// Whether an error concerns the lines, and not the connection or the server.
fn is_about_items(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::AlreadyExists)
}

/// The bad fields of an error, by column name.
fn reasons(status: &tonic::Status) -> String {
    let fields: Vec<_> = status.get_details_bad_request().map_or_else(Vec::new, |bad| {
        let field = |name: &str| name.strip_prefix("event.").unwrap_or(name).to_owned();
        bad.field_violations.iter().map(|bad| format!("{} {}", field(&bad.field), bad.description)).collect()
    });
    if fields.is_empty() { status.message().to_owned() } else { fields.join("; ") }
}
