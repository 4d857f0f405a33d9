//! `reservd waitlist`: the entries that wait for units.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    client::{Client, Paging},
    failure::Failure,
    table::{Column, Table},
    text,
};
use crate::rpc::pb::{
    ListWaitlistRequest, WaitlistEntry, WaitlistEntryState, waitlist_service_client::WaitlistServiceClient,
};

/// The commands of `reservd waitlist`.
#[derive(Debug, Subcommand)]
pub enum WaitlistCommand {
    /// List the entries of an event, of a user, or of a user at an event, in the order in which they wait
    List(List),
}

/// The options of `reservd waitlist list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only entries of this event
    #[arg(long, value_name = "EVENT", default_value = "", hide_default_value = true, required_unless_present = "user")]
    event: String,
    /// Only entries of this user
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// Only entries in this state; may be repeated
    #[arg(long, value_enum)]
    state: Vec<State>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    client: Client,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Waiting,
    Promoted,
    Left,
    Ended,
}

impl From<State> for i32 {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => WaitlistEntryState::Waiting,
            State::Promoted => WaitlistEntryState::Promoted,
            State::Left => WaitlistEntryState::Left,
            State::Ended => WaitlistEntryState::Ended,
        }
        .into()
    }
}

impl WaitlistCommand {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let Self::List(list) = self;
        list.run().await
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let mut client = WaitlistServiceClient::new(self.client.target.connect().await?);
        let page = async |page_size, page_token| {
            let request = ListWaitlistRequest {
                event_id: self.event.clone(),
                user_id: self.user.clone(),
                states: self.state.iter().copied().map(i32::from).collect(),
                page_size,
                page_token,
            };
            let page = client.list_waitlist(request).await?.into_inner();
            Ok((page.entries, page.next_page_token))
        };
        self.client.format.list(self.paging, "reservd.v1.WaitlistEntry", page, table(), row).await
    }
}

fn table() -> Table {
    Table::new(&[
        Column::Text("EVENT"),
        Column::Number("TICKET"),
        Column::Text("USER"),
        Column::Number("QUANTITY"),
        Column::Number("LEAST"),
        Column::Text("STATE"),
        Column::Text("CREATED"),
        Column::Text("ENTRY"),
    ])
}

fn row(entry: &WaitlistEntry) -> Vec<String> {
    vec![
        entry.event_id.clone(),
        entry.ticket.to_string(),
        entry.user_id.clone(),
        entry.quantity.to_string(),
        entry.min_quantity.to_string(),
        text::name(entry.state().as_str_name(), "WAITLIST_ENTRY_STATE_"),
        text::time(entry.create_time),
        entry.entry_id.clone(),
    ]
}
