//! EventService: decode, one use case, encode.

use std::collections::HashSet;

use tonic::{Request, Response, Status};

use super::{
    decode::event as decode,
    encode,
    execute::execute,
    layers::{auth::caller_of, deadline::deadline_of},
    page_token,
    pb::{self, event_service_server::EventService},
    status,
};
use crate::ops::{Ledger, create_events::NewEvent};

/// The service.
pub struct Events {
    ledger: Ledger,
}

impl Events {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }
}

/// The handler of a mutation that answers with the event.
macro_rules! mutation {
    ($self:ident, $request:ident, $decode:path, $response:ident) => {{
        let (deadline, caller) = (deadline_of(&$request), caller_of(&$request)?);
        let outcome = execute(&$self.ledger, $decode($request.into_inner(), deadline)?, caller).await?;
        Ok(Response::new(pb::$response { event: encode::changed_event(&outcome.change), replayed: outcome.replayed }))
    }};
}

#[tonic::async_trait]
impl EventService for Events {
    async fn create_event(
        &self,
        request: Request<pb::CreateEventRequest>,
    ) -> Result<Response<pb::CreateEventResponse>, Status> {
        let (deadline, actor) = (deadline_of(&request), caller_of(&request)?.actor);
        let new = NewEvent { actor, ..decode::create_event(request.into_inner())? };
        let id = new.id.clone();
        let created = self.ledger.create_events(vec![new], deadline).await;
        let created = created.map_err(|error| status::of(&error, Some(&id)))?;
        Ok(Response::new(pb::CreateEventResponse {
            event: created.first().map(|one| encode::event(&one.event)),
            replayed: created.iter().any(|one| one.replayed),
        }))
    }

    async fn batch_create_events(
        &self,
        request: Request<pb::BatchCreateEventsRequest>,
    ) -> Result<Response<pb::BatchCreateEventsResponse>, Status> {
        let (deadline, actor) = (deadline_of(&request), caller_of(&request)?.actor);
        let mut news = decode::batch_create_events(request.into_inner())?;
        news.iter_mut().for_each(|new| new.actor.clone_from(&actor));
        let created = self.ledger.create_events(news, deadline).await.map_err(|error| status::of(&error, None))?;
        let replayed = created.iter().filter(|one| one.replayed).count();
        Ok(Response::new(pb::BatchCreateEventsResponse {
            events: created.iter().map(|one| encode::event(&one.event)).collect(),
            replayed: i32::try_from(replayed).unwrap_or(i32::MAX),
        }))
    }

    async fn get_event(&self, request: Request<pb::GetEventRequest>) -> Result<Response<pb::GetEventResponse>, Status> {
        let deadline = deadline_of(&request);
        let id = decode::event_id(&request.get_ref().event_id)?;
        let event = self.ledger.event(id.clone(), deadline).await.map_err(|error| status::of(&error, Some(&id)))?;
        Ok(Response::new(pb::GetEventResponse { event: Some(encode::event(&event)) }))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let (deadline, mut message) = (deadline_of(&request), request.into_inner());
        let token = std::mem::take(&mut message.page_token);
        let (filter, size) = decode::list_filter(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, decode::cursor)?;
        let page = self.ledger.list_events(filter, after, size, deadline).await;
        let page = page.map_err(|error| status::of(&error, None))?;
        let last = page.last_before_more();
        let next = last.map(|last| page_token::encode(&message, &(last.definition.start_time, &last.id)));
        Ok(Response::new(pb::ListEventsResponse {
            events: page.rows.iter().map(encode::event).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn update_event(
        &self,
        request: Request<pb::UpdateEventRequest>,
    ) -> Result<Response<pb::UpdateEventResponse>, Status> {
        mutation!(self, request, decode::update_event, UpdateEventResponse)
    }

    async fn open_event(
        &self,
        request: Request<pb::OpenEventRequest>,
    ) -> Result<Response<pb::OpenEventResponse>, Status> {
        mutation!(self, request, decode::open_event, OpenEventResponse)
    }

    async fn close_event(
        &self,
        request: Request<pb::CloseEventRequest>,
    ) -> Result<Response<pb::CloseEventResponse>, Status> {
        mutation!(self, request, decode::close_event, CloseEventResponse)
    }

    async fn cancel_event(
        &self,
        request: Request<pb::CancelEventRequest>,
    ) -> Result<Response<pb::CancelEventResponse>, Status> {
        let (deadline, caller) = (deadline_of(&request), caller_of(&request)?);
        let decoded = decode::cancel_event(request.into_inner(), deadline)?;
        let outcome = execute(&self.ledger, decoded, caller).await?;
        let record = outcome.change.event();
        let cancelled = record.map_or(0, |record| record.cancelled_reservations);
        let ended = record.map_or(0, |record| record.ended_entries);
        Ok(Response::new(pb::CancelEventResponse {
            event: encode::changed_event(&outcome.change),
            cancelled_reservations: cancelled.cast_signed(),
            replayed: outcome.replayed,
            ended_waitlist_entries: ended.cast_signed(),
        }))
    }

    async fn get_availability(
        &self,
        request: Request<pb::GetAvailabilityRequest>,
    ) -> Result<Response<pb::GetAvailabilityResponse>, Status> {
        let deadline = deadline_of(&request);
        let id = decode::event_id(&request.get_ref().event_id)?;
        let found = self.ledger.availability(vec![id.clone()], deadline).await;
        let found = found.map_err(|error| status::of(&error, Some(&id)))?;
        let found = found.first().ok_or_else(|| status::event_not_found(&id))?;
        Ok(Response::new(pb::GetAvailabilityResponse { availability: Some(encode::availability(found)) }))
    }

    async fn batch_get_availability(
        &self,
        request: Request<pb::BatchGetAvailabilityRequest>,
    ) -> Result<Response<pb::BatchGetAvailabilityResponse>, Status> {
        let deadline = deadline_of(&request);
        let ids = decode::batch_ids(request.get_ref())?;
        let found = self.ledger.availability(ids.clone(), deadline).await;
        let found = found.map_err(|error| status::of(&error, None))?;
        let known: HashSet<_> = found.iter().map(|one| &one.event.id).collect();
        let missing = ids.iter().filter(|id| !known.contains(id)).map(ToString::to_string);
        Ok(Response::new(pb::BatchGetAvailabilityResponse {
            missing_event_ids: missing.collect(),
            availabilities: found.iter().map(encode::availability).collect(),
        }))
    }

    async fn verify_event(
        &self,
        request: Request<pb::VerifyEventRequest>,
    ) -> Result<Response<pb::VerifyEventResponse>, Status> {
        let deadline = deadline_of(&request);
        let id = decode::event_id(&request.get_ref().event_id)?;
        let audit = self.ledger.audit(id.clone(), deadline).await.map_err(|error| status::of(&error, Some(&id)))?;
        Ok(Response::new(encode::audit(&audit)))
    }
}
