//! `reservd event show`.

use clap::Args;

use super::{
    super::{
        call_error::failed,
        client::Client,
        event_file::columns,
        failure::Failure,
        output::{print, print_json},
        table::Table,
        text,
    },
    rows::name_of_state,
};
use crate::rpc::pb::{Event, GetEventRequest, event_service_client::EventServiceClient};

/// The options of `reservd event show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The event
    #[arg(value_name = "EVENT")]
    event_id: String,
    #[command(flatten)]
    client: Client,
}

impl Show {
    /// Shows the event.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = EventServiceClient::new(self.client.target.connect().await?);
        let response = client.get_event(GetEventRequest { event_id: self.event_id }).await.map_err(failed)?;
        let event = response.into_inner().event.unwrap_or_default();
        if self.client.format.json { print_json("reservd.v1.Event", &event) } else { print(table(event)) }
    }
}

/// The fields by the names that they have in CSV files; then what the server counts and records.
fn table(mut event: Event) -> Table {
    let counts = event.counts.unwrap_or_default();
    let recorded = [
        ("state", name_of_state(event.state())),
        ("held", counts.held.to_string()),
        ("lapsed", counts.lapsed.map_or_else(String::new, |lapsed| lapsed.to_string())),
        ("confirmed", counts.confirmed.to_string()),
        ("free", counts.available.to_string()),
        ("waiting", counts.waiting.to_string()),
        ("created", text::time(event.create_time)),
        ("updated", text::time(event.update_time)),
        ("version", event.version.to_string()),
        ("etag", event.etag.clone()),
    ];
    let columns = columns::of_events(std::slice::from_ref(&event));
    let defined = columns.iter().filter(|column| column.name() != "state");
    let mut pairs: Vec<_> = defined.map(|column| (column.name(), column.text(&mut event))).collect();
    pairs.extend(recorded.map(|(name, value)| (name.to_owned(), value)));
    Table::of_pairs(pairs)
}
