//! `reservd watch`: the changes of events while they happen. A lost connection is made again, and the watch goes on after
//! the last change that it has shown.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use prost_types::Timestamp;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::{
    call_error::failed,
    client::Client,
    event::name_of_state,
    failure::Failure,
    output::{print, print_json},
    table::printable,
    text::{self, clock, counted},
};
use crate::rpc::pb::{
    Change, Reservation, WaitlistEntry, WatchChangesRequest, WatchChangesResponse, WatchedEvent, change::Subject,
    feed_service_client::FeedServiceClient,
};

/// The first pause before a lost connection is made again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The options of `reservd watch`.
#[derive(Debug, Args)]
#[command(after_help = "Times of day are in UTC. The watch ends when every event is cancelled, or with Ctrl-C.")]
pub struct Watch {
    /// The events to watch, at most 256
    #[arg(value_name = "EVENT", required = true)]
    event_ids: Vec<String>,
    /// Begin after this version of the events, in place of now; 0: with their creation
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(0..))]
    after_version: Option<i64>,
    #[command(flatten)]
    client: Client,
}

/// How far each event has been shown.
type Shown = BTreeMap<String, Option<i64>>;

impl Watch {
    /// Watches until every event is cancelled.
    pub async fn run(self) -> Result<(), Failure> {
        let mut shown: Shown = self.event_ids.iter().map(|id| (id.clone(), self.after_version)).collect();
        let mut pause = None;
        loop {
            let before = shown.clone();
            let ended = match self.client.target.connect_for_streams().await {
                Ok(wire) => self.follow(FeedServiceClient::new(wire), &mut shown).await?,
                // A server that has never answered is the caller's mistake.
                Err(failure) if pause.is_none() => return Err(failure),
                Err(failure) => Err(Status::unavailable(failure.to_string())),
            };
            let status = match ended {
                Ok(()) => return Ok(()),
                Err(status) if is_lost(&status) && (pause.is_some() || shown != before) => status,
                Err(status) => return Err(failed(status)),
            };
            let next = if shown == before { pause.unwrap_or(FIRST_PAUSE) } else { FIRST_PAUSE };
            eprintln!("{}; trying again in {}", status.message(), humantime::format_duration(next));
            sleep(next).await;
            pause = Some((next * 2).min(LONGEST_PAUSE));
        }
    }

    /// Shows changes until the stream ends, and returns how it has ended.
    async fn follow(
        &self,
        mut client: FeedServiceClient<super::wire::Wire>,
        shown: &mut Shown,
    ) -> Result<Result<(), Status>, Failure> {
        let watched =
            |(id, version): (&String, &Option<i64>)| WatchedEvent { event_id: id.clone(), after_version: *version };
        let request = WatchChangesRequest { events: shown.iter().map(watched).collect() };
        let mut stream = match client.watch_changes(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    self.show(&message)?;
                    if !message.event_id.is_empty() {
                        shown.insert(message.event_id, Some(message.version));
                    }
                }
                Ok(None) => return Ok(Ok(())),
                Err(status) => return Ok(Err(status)),
            }
        }
    }

    fn show(&self, message: &WatchChangesResponse) -> Result<(), Failure> {
        if self.client.format.json {
            return print_json("reservd.v1.WatchChangesResponse", message);
        }
        // A heartbeat shows nothing.
        if message.snapshot.is_some() {
            print(line(message.server_time, &message.event_id, message.version, "is now", message))?;
        }
        let last = message.changes.last().map(|change| change.version);
        for change in &message.changes {
            let what = described(change);
            let is_last = last == Some(change.version);
            let counted = if is_last { message.clone() } else { WatchChangesResponse::default() };
            print(line(change.change_time, &message.event_id, change.version, &what, &counted))?;
        }
        Ok(())
    }
}

/// Whether a stream was lost, so that another one may go on.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Cancelled | Code::Unknown)
}

/// A line: when, which event, its version, what happened, and how much is taken if the message says that.
fn line(time: Option<Timestamp>, event_id: &str, version: i64, what: &str, message: &WatchChangesResponse) -> String {
    let taken = message.counts.map_or_else(String::new, |counts| {
        let (held, confirmed, free) = (counts.held, counts.confirmed, counts.available);
        let state = name_of_state(message.state());
        format!("  [{state}: {held} held, {confirmed} confirmed, {free} free, {} waiting]", counts.waiting)
    });
    printable(&format!("{}  {event_id}  v{version}  {what}{taken}", clock(time))) + "\n"
}

/// What a change did, in words: `RESERVATION_HELD ann, 2 units`.
fn described(change: &Change) -> String {
    let kind = text::name(change.kind().as_str_name(), "CHANGE_KIND_");
    match &change.subject {
        Some(Subject::Reservation(Reservation { user_id, quantity, .. }))
        | Some(Subject::Entry(WaitlistEntry { user_id, quantity, .. })) => {
            format!("{kind} {user_id}, {}", counted((*quantity).into(), "unit"))
        }
        Some(Subject::Event(_)) | None => kind,
    }
}
