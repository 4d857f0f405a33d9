//! FeedService: decode, one use case, encode.

use tokio_stream::Empty;
use tonic::{Request, Response, Status};

use super::{
    decode::{self, history},
    encode,
    layers::{
        auth::only_of,
        deadline::{asked_deadline_of, deadline_of},
        raw_body::RawBody,
    },
    page_token,
    pb::{self, feed_service_server::FeedService},
    status::{self, About},
    watch,
};
use crate::ops::Ledger;

/// The service.
pub struct Feed {
    ledger: Ledger,
}

impl Feed {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }
}

#[tonic::async_trait]
impl FeedService for Feed {
    async fn list_changes(
        &self,
        request: Request<pb::ListChangesRequest>,
    ) -> Result<Response<pb::ListChangesResponse>, Status> {
        let only = only_of(&request)?;
        let (deadline, mut message) = (deadline_of(&request), request.into_inner());
        decode::restrict(&mut message.user_id, only)?;
        let token = std::mem::take(&mut message.page_token);
        let (filter, size) = history::list_changes(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, page_token::decode)?;
        let subject = About::event(&filter.event_id);
        let page = self.ledger.list_changes(filter, after, size, deadline).await;
        let page = page.map_err(|error| status::of(&error, &subject))?;
        let next = page.next.map(|version| page_token::encode(&message, &version));
        Ok(Response::new(pb::ListChangesResponse {
            changes: page.changes.iter().map(encode::change).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    /// Empty: the stream is the body that [`watch::body`] makes.
    type WatchChangesStream = Empty<Result<pb::WatchChangesResponse, Status>>;

    async fn watch_changes(
        &self,
        request: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let (deadline, until) = (deadline_of(&request), asked_deadline_of(&request));
        let wanted = history::watch_changes(request.get_ref())?;
        let watches = self.ledger.watch(wanted, deadline, until).await;
        let watches = watches.map_err(|(event_id, error)| {
            let subject = About { event_id, ..About::default() };
            status::of(&error, &subject)
        })?;
        let mut response = Response::new(tokio_stream::empty());
        response.extensions_mut().insert(RawBody::new(watch::body(self.ledger.clone(), watches)));
        Ok(response)
    }
}
