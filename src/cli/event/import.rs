//! `reservd event import`: creates the events of a CSV file, and compares those that exist with their lines.
//!
//! It never changes an existing event, so it can be repeated. What it reports is in the order of the file.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs,
    path::PathBuf,
};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use prost::Message;
use tonic::{Code, Status};

use super::super::{
    call_error::failed,
    event_file::{self, Problem, Row, Rows, columns, columns::Column},
    failure::Failure,
    output::print,
    target::Target,
    wire::Wire,
};
use crate::rpc::pb::{
    BatchCreateEventsRequest, BatchGetAvailabilityRequest, CancelEventRequest, Event, GetEventRequest,
    event_service_client::EventServiceClient,
};

/// Lines in one call.
const BATCH: usize = 500;
/// Bytes of events in one call, well below what client and server accept.
const BATCH_BYTES: usize = 1024 * 1024;
/// Concurrent reads of existing events.
const READS: usize = 16;
/// Lines that are reported; further ones are only counted.
const MAX_REPORTED: usize = 50;

/// The options of `reservd event import`.
#[derive(Debug, Args)]
#[command(after_help = "\
The first line of the file names its columns; event_id and capacity are needed. docs/CSV.md describes all columns.
Exit codes: 0 every line is an event on the server, with the values of the line; 1 at least one line is not, or the
import could not be finished; 2 wrong usage.")]
pub struct Import {
    /// The CSV file, with a header line
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

impl Import {
    /// Imports the file.
    pub async fn run(self) -> Result<(), Failure> {
        let name = self.file.display();
        let file = fs::read(&self.file).map_err(|error| format!("cannot read {name}: {error}"))?;
        let text = event_file::decode(&file).map_err(|problem| format!("{name}: {problem}"))?;
        let rows = Rows::of(&text).map_err(|problem| format!("{name}: {problem}"))?;

        let client = EventServiceClient::new(self.target.connect().await?);
        let mut run =
            Run { client, columns: rows.columns(), bar: progress_bar(), tally: Tally::default(), reported: 0 };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for row in rows {
            bytes += row.event.as_ref().map_or(0, Message::encoded_len);
            batch.push(row);
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                run.import(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        run.import(batch).await?;
        run.finish()
    }
}

/// The result of an import.
#[derive(Debug, Default)]
struct Tally {
    created: u64,
    existing: u64,
    different: u64,
    cancelled: u64,
    bad: u64,
    unread: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, existing, different, cancelled, bad, unread } = self;
        write!(f, "{created} events created, {existing} existing, {different} different, {cancelled} cancelled, ")?;
        write!(f, "{bad} bad lines, {unread} lines not read")
    }
}

/// What became of a line.
enum Outcome {
    Created,
    /// The event exists as the line says.
    Existing,
    /// The event exists, and differs as described.
    Different(String),
    Cancelled,
    Bad(Problem),
}

/// An event of the file, and the number of its line.
struct Line {
    number: u64,
    event: Event,
}

/// A running import.
struct Run {
    client: EventServiceClient<Wire>,
    columns: Vec<Column>,
    bar: ProgressBar,
    tally: Tally,
    reported: usize,
}

impl Run {
    /// Imports some lines, and reports those with a problem.
    async fn import(&mut self, rows: Vec<Row>) -> Result<(), Failure> {
        let (mut lines, mut outcomes) = (Vec::with_capacity(rows.len()), BTreeMap::new());
        for Row { line: number, event } in rows {
            match event {
                Ok(event) => lines.push(Line { number, event }),
                Err(problem) => drop(outcomes.insert(number, Outcome::Bad(problem))),
            }
        }
        outcomes.extend(self.outcomes(lines).await.map_err(failed)?);
        for outcome in outcomes {
            self.count(outcome);
        }
        Ok(())
    }

    /// Creates the events that do not exist, and compares the others.
    async fn outcomes(&mut self, lines: Vec<Line>) -> Result<Vec<(u64, Outcome)>, Status> {
        let created = self.create_missing(&lines).await?;
        let this = &*self;
        let outcomes = lines.into_iter().map(|line| {
            let is_new = created.contains(&line.event.event_id);
            async move { if is_new { this.complete(line).await } else { this.compare(line).await } }
        });
        stream::iter(outcomes).buffered(READS).try_collect().await
    }

    /// Creates the events that do not exist, all or none, and returns their ids.
    async fn create_missing(&mut self, lines: &[Line]) -> Result<HashSet<String>, Status> {
        if lines.is_empty() {
            return Ok(HashSet::new());
        }
        let event_ids: Vec<_> = lines.iter().map(|line| line.event.event_id.clone()).collect();
        loop {
            let request = BatchGetAvailabilityRequest { event_ids: event_ids.clone() };
            let missing = self.client.batch_get_availability(request).await?.into_inner().missing_event_ids;
            let missing: HashSet<_> = missing.into_iter().collect();
            let new = lines.iter().filter(|line| missing.contains(&line.event.event_id));
            let requests: Vec<_> = new.map(|line| columns::request(&line.event)).collect();
            if requests.is_empty() {
                return Ok(missing);
            }
            match self.client.batch_create_events(BatchCreateEventsRequest { requests, ..Default::default() }).await {
                Ok(_) => return Ok(missing),
                // Another client has created one since. It is not missing any more.
                Err(status) if status.code() == Code::AlreadyExists => {}
                Err(status) => return Err(status),
            }
        }
    }

    /// Cancels an event that was just created, if its line says so.
    async fn complete(&self, line: Line) -> Result<(u64, Outcome), Status> {
        if columns::is_cancelled(&line.event) {
            let Event { event_id, cancel_reason: reason, .. } = line.event;
            let request = CancelEventRequest { event_id, reason, ..Default::default() };
            self.client.clone().cancel_event(request).await?;
        }
        Ok((line.number, Outcome::Created))
    }

    async fn compare(&self, mut line: Line) -> Result<(u64, Outcome), Status> {
        let request = GetEventRequest { event_id: line.event.event_id.clone() };
        let existing = self.client.clone().get_event(request).await?.into_inner().event;
        let mut existing = existing.unwrap_or_default();
        let outcome = if columns::is_cancelled(&existing) && !columns::is_cancelled(&line.event) {
            Outcome::Cancelled
        } else {
            match columns::differences(&self.columns, &mut existing, &mut line.event).join("; ") {
                same if same.is_empty() => Outcome::Existing,
                differences => Outcome::Different(differences),
            }
        };
        Ok((line.number, outcome))
    }

    fn count(&mut self, (number, outcome): (u64, Outcome)) {
        let tally = &mut self.tally;
        let messages = match outcome {
            Outcome::Created => {
                tally.created += 1;
                vec![]
            }
            Outcome::Existing => {
                tally.existing += 1;
                vec![]
            }
            Outcome::Different(differences) => {
                tally.different += 1;
                vec![format!("line {number}: the event differs: {differences}")]
            }
            Outcome::Cancelled => {
                tally.cancelled += 1;
                vec![format!("line {number}: the event is cancelled")]
            }
            Outcome::Bad(Problem { messages, unread }) => {
                tally.unread += unread;
                tally.bad += u64::from(unread == 0);
                messages
            }
        };
        self.bar.inc(1);
        self.reported += usize::from(!messages.is_empty());
        if self.reported <= MAX_REPORTED {
            messages.iter().for_each(|message| self.bar.suspend(|| eprintln!("{message}")));
        }
    }

    fn finish(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if self.reported > MAX_REPORTED {
            eprintln!("... and {} more", self.reported - MAX_REPORTED);
        }
        print(format_args!("{}\n", self.tally))?;
        let Tally { created: _, existing: _, different, cancelled, bad, unread } = self.tally;
        match different + cancelled + bad + unread {
            0 => Ok(()),
            1 => Err("1 line is not imported".into()),
            lines => Err(format!("{lines} lines are not imported").into()),
        }
    }
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} lines, {per_sec}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
