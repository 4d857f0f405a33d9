//! `reservd event list`.

use clap::Args;

use super::{
    super::{
        client::{Client, Paging},
        failure::Failure,
    },
    filters::Filters,
    rows::{row, table},
};
use crate::rpc::pb::event_service_client::EventServiceClient;

/// The options of `reservd event list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    filters: Filters,
}

impl List {
    /// Lists the events.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = EventServiceClient::new(self.client.target.connect().await?);
        let page = async |size, token| {
            let page = client.list_events(self.filters.request(size, token)).await?.into_inner();
            Ok((page.events, page.next_page_token))
        };
        self.client.format.list(self.paging, "reservd.v1.Event", page, table(), row).await
    }
}
