//! The commands that change one event.

use clap::Args;
use prost::Message;
use prost_types::FieldMask;

use super::{
    super::{
        call_error::failed,
        client::{Answer, Client, Mutation, repeated, send},
        failure::Failure,
        settings::key_value,
        text::counted,
        wire::Wire,
    },
    fields::Fields,
    rows::table_of,
};
use crate::rpc::pb::{
    CancelEventRequest, CloseEventRequest, CreateEventRequest, Event, ExecutionReport, GetEventRequest,
    OpenEventRequest, UpdateEventRequest, event_service_client::EventServiceClient,
};

/// The options of every command that changes one event.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    mutation: Mutation,
    #[command(flatten)]
    client: Client,
}

/// An event that exists, as its caller has read it.
#[derive(Debug, Args)]
struct Existing {
    /// The event
    #[arg(value_name = "EVENT")]
    event_id: String,
    /// Only if this is still its etag, which `event show` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// The options of `reservd event create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The id of the event
    #[arg(value_name = "EVENT")]
    event_id: String,
    /// How many units it has
    #[arg(long, value_name = "N")]
    capacity: i32,
    /// Create it closed
    #[arg(long)]
    closed: bool,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fields: Fields,
}

/// The options of `reservd event update`.
#[derive(Debug, Args)]
#[command(after_help = "A field with an empty value gets its default. Fields that are not named stay as they are.")]
pub struct Update {
    #[command(flatten)]
    existing: Existing,
    /// How many units it has
    #[arg(long, value_name = "N")]
    capacity: Option<i32>,
    /// A label to add or change; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// A label to remove; may be repeated
    #[arg(long, value_name = "KEY")]
    remove_label: Vec<String>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fields: Fields,
}

/// The options of `reservd event open`.
#[derive(Debug, Args)]
pub struct Open {
    #[command(flatten)]
    existing: Existing,
    #[command(flatten)]
    common: Common,
}

/// The options of `reservd event close`.
#[derive(Debug, Args)]
pub struct Close {
    #[command(flatten)]
    existing: Existing,
    #[command(flatten)]
    common: Common,
}

/// The options of `reservd event cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    existing: Existing,
    /// Why, for those who had a reservation
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    common: Common,
}

impl Common {
    async fn connect(&self) -> Result<(EventServiceClient<Wire>, String, bool), Failure> {
        let client = EventServiceClient::new(self.client.target.connect().await?);
        Ok((client, self.mutation.request_id(), self.mutation.dry_run))
    }

    fn report<M: Message>(
        &self,
        request_id: &str,
        name: &str,
        message: &M,
        event: Option<&Event>,
        execution: Option<&ExecutionReport>,
    ) -> Result<(), Failure> {
        let answer = Answer { name, message, execution };
        self.mutation.report(self.client.format, request_id, &answer, || table_of(event.unwrap_or(&Event::default())))
    }
}

impl Create {
    /// Creates the event.
    pub async fn run(self) -> Result<(), Failure> {
        let mut event = Event { event_id: self.event_id, capacity: self.capacity, ..Event::default() };
        event.labels.extend(self.label);
        self.fields.apply(&mut event)?;
        let (mut client, id, validate_only) = self.common.connect().await?;
        let (event, request_id) = (Some(event), id.clone());
        let request =
            CreateEventRequest { event, start_closed: self.closed, request_id, validate_only, ..Default::default() };
        let answer = send(&repeated(&id), client.create_event(request)).await?;
        let (event, execution) = (answer.event.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.CreateEventResponse", &answer, event, execution)
    }
}

impl Update {
    /// Changes the event.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let mut paths = self.fields.paths();
        let (event_id, mut etag) = (self.existing.event_id.clone(), self.existing.etag.clone());
        let mut event = Event { event_id: event_id.clone(), ..Event::default() };
        // What is set as a whole keeps the parts that are not named, as they are now.
        if paths.iter().any(|path| path == "waitlist") || self.changes_labels() {
            let read = client.get_event(GetEventRequest { event_id }).await.map_err(failed)?;
            let read = read.into_inner().event.unwrap_or_default();
            // Nothing else of it: a repeated command must send what the first one has sent.
            (event.labels, event.waitlist) = (read.labels, read.waitlist);
            if etag.is_empty() {
                etag = read.etag;
            }
        }
        self.fields.apply(&mut event)?;
        if let Some(capacity) = self.capacity {
            event.capacity = capacity;
            paths.push("capacity".to_owned());
        }
        if self.changes_labels() {
            event.labels.retain(|key, _| !self.remove_label.contains(key));
            event.labels.extend(self.label.clone());
            paths.push("labels".to_owned());
        }
        if paths.is_empty() {
            return Err("there is nothing to change; name a field, such as --capacity 100".into());
        }
        let (event, update_mask, request_id) = (Some(event), Some(FieldMask { paths }), id.clone());
        let repeat = if etag.is_empty() { repeated(&id) } else { format!("{} --etag {etag}", repeated(&id)) };
        let request = UpdateEventRequest { event, update_mask, etag, request_id, validate_only, options: None };
        let answer = send(&repeat, client.update_event(request)).await?;
        let (event, execution) = (answer.event.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.UpdateEventResponse", &answer, event, execution)
    }

    fn changes_labels(&self) -> bool {
        !self.label.is_empty() || !self.remove_label.is_empty()
    }
}

impl Open {
    /// Opens the event.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let (Existing { event_id, etag }, request_id) = (self.existing, id.clone());
        let request = OpenEventRequest { event_id, etag, request_id, validate_only, options: None };
        let answer = send(&repeated(&id), client.open_event(request)).await?;
        let (event, execution) = (answer.event.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.OpenEventResponse", &answer, event, execution)
    }
}

impl Close {
    /// Closes the event.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let (Existing { event_id, etag }, request_id) = (self.existing, id.clone());
        let request = CloseEventRequest { event_id, etag, request_id, validate_only, options: None };
        let answer = send(&repeated(&id), client.close_event(request)).await?;
        let (event, execution) = (answer.event.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.CloseEventResponse", &answer, event, execution)
    }
}

impl Cancel {
    /// Cancels the event.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let (Existing { event_id, etag }, request_id) = (self.existing, id.clone());
        let request =
            CancelEventRequest { event_id, reason: self.reason, etag, request_id, validate_only, options: None };
        let answer = send(&repeated(&id), client.cancel_event(request)).await?;
        let (event, execution) = (answer.event.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.CancelEventResponse", &answer, event, execution)?;
        if !self.common.client.format.json {
            let ended = counted(answer.cancelled_reservation_count.into(), "reservation");
            let entries = answer.ended_waitlist_entry_count;
            eprintln!("{ended} cancelled, {entries} of the waitlist ended");
        }
        Ok(())
    }
}
