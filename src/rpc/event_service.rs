//! EventService: decode, one use case, encode.

use std::collections::HashSet;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    decode::{counts, event as decode, event_state},
    encode,
    execute::{execute, mutation},
    layers::{auth::caller_of, deadline::deadline_of},
    page_token,
    pb::{self, event_service_server::EventService},
    status::{self, About},
};
use crate::{
    config::StrategyDefaults,
    domain::{booking_close::BookingClose, ids::EventId},
    ops::{Ledger, create_events::NewEvent},
    store::events::Availability,
};

/// The service.
pub struct Events {
    ledger: Ledger,
    defaults: StrategyDefaults,
    booking_close: BookingClose,
}

impl Events {
    /// `booking_close` is for events that do not say when booking closes.
    pub fn new(ledger: Ledger, defaults: StrategyDefaults, booking_close: BookingClose) -> Self {
        Self { ledger, defaults, booking_close }
    }
}

impl Events {
    async fn availability_of(&self, id: EventId, deadline: Instant) -> Result<Availability, Status> {
        let found = self.ledger.availability(vec![id.clone()], deadline).await;
        let found = found.map_err(|error| status::of(&error, &About::event(&id)))?;
        found.into_iter().next().ok_or_else(|| status::event_not_found(&id))
    }
}

#[tonic::async_trait]
impl EventService for Events {
    async fn create_event(
        &self,
        request: Request<pb::CreateEventRequest>,
    ) -> Result<Response<pb::CreateEventResponse>, Status> {
        let (deadline, actor) = (deadline_of(&request), caller_of(&request)?.actor);
        let (new, validate_only) = decode::create_event(request.into_inner(), self.booking_close)?;
        let id = new.id.clone();
        let created = self.ledger.create_events(vec![NewEvent { actor, ..new }], validate_only, deadline).await;
        let created = created.map_err(|error| status::of(&error, &About::event(&id)))?;
        let created = created.first().ok_or_else(status::internal)?;
        Ok(Response::new(pb::CreateEventResponse {
            event: Some(encode::event(&created.event, None)),
            execution: Some(encode::creation(created, self.ledger.now())),
        }))
    }

    async fn batch_create_events(
        &self,
        request: Request<pb::BatchCreateEventsRequest>,
    ) -> Result<Response<pb::BatchCreateEventsResponse>, Status> {
        let (deadline, actor) = (deadline_of(&request), caller_of(&request)?.actor);
        let (mut news, validate_only) = decode::batch_create_events(request.into_inner(), self.booking_close)?;
        news.iter_mut().for_each(|new| new.actor.clone_from(&actor));
        let created = self.ledger.create_events(news, validate_only, deadline).await;
        let created = created.map_err(|error| status::of(&error, &About::default()))?;
        let replayed = created.iter().filter(|one| one.replayed).count();
        Ok(Response::new(pb::BatchCreateEventsResponse {
            events: created.iter().map(|one| encode::event(&one.event, None)).collect(),
            replayed_count: i32::try_from(replayed).unwrap_or(i32::MAX),
        }))
    }

    async fn get_event(&self, request: Request<pb::GetEventRequest>) -> Result<Response<pb::GetEventResponse>, Status> {
        let deadline = deadline_of(&request);
        let id = decode::event_id(&request.get_ref().event_id)?;
        let found = self.availability_of(id, deadline).await?;
        let server_time = Some(encode::timestamp(self.ledger.now()));
        Ok(Response::new(pb::GetEventResponse {
            event: Some(encode::event(&found.event, Some(found.lapsed))),
            server_time,
        }))
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
        let page = page.map_err(|error| status::of(&error, &About::default()))?;
        let last = page.last_before_more().map(|(event, _)| event);
        let next = last.map(|last| page_token::encode(&message, &(last.definition.start_time, &last.id)));
        Ok(Response::new(pb::ListEventsResponse {
            events: page.rows.iter().map(|(event, lapsed)| encode::event(event, Some(*lapsed))).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn update_event(
        &self,
        request: Request<pb::UpdateEventRequest>,
    ) -> Result<Response<pb::UpdateEventResponse>, Status> {
        mutation!(self, request, decode::update_event, UpdateEventResponse { event: encode::changed_event })
    }

    async fn open_event(
        &self,
        request: Request<pb::OpenEventRequest>,
    ) -> Result<Response<pb::OpenEventResponse>, Status> {
        mutation!(self, request, event_state::open, OpenEventResponse { event: encode::changed_event })
    }

    async fn close_event(
        &self,
        request: Request<pb::CloseEventRequest>,
    ) -> Result<Response<pb::CloseEventResponse>, Status> {
        mutation!(self, request, event_state::close, CloseEventResponse { event: encode::changed_event })
    }

    async fn cancel_event(
        &self,
        request: Request<pb::CancelEventRequest>,
    ) -> Result<Response<pb::CancelEventResponse>, Status> {
        let (deadline, caller) = (deadline_of(&request), caller_of(&request)?);
        let decoded = event_state::cancel(request.into_inner(), self.defaults, deadline)?;
        let outcome = execute(&self.ledger, decoded, caller).await?;
        let record = outcome.change.event();
        let cancelled = record.map_or(0, |record| record.cancelled_reservations);
        let ended = record.map_or(0, |record| record.ended_entries);
        Ok(Response::new(pb::CancelEventResponse {
            event: encode::changed_event(&outcome.change),
            execution: Some(encode::execution(&outcome, self.ledger.now())),
            cancelled_reservation_count: cancelled.cast_signed(),
            ended_waitlist_entry_count: ended.cast_signed(),
        }))
    }

    async fn delete_event(
        &self,
        request: Request<pb::DeleteEventRequest>,
    ) -> Result<Response<pb::DeleteEventResponse>, Status> {
        mutation!(self, request, event_state::delete, DeleteEventResponse { event: encode::changed_event })
    }

    async fn get_availability(
        &self,
        request: Request<pb::GetAvailabilityRequest>,
    ) -> Result<Response<pb::GetAvailabilityResponse>, Status> {
        let deadline = deadline_of(&request);
        let id = decode::event_id(&request.get_ref().event_id)?;
        let found = self.availability_of(id, deadline).await?;
        Ok(Response::new(pb::GetAvailabilityResponse {
            availability: Some(encode::availability(&found)),
            server_time: Some(encode::timestamp(self.ledger.now())),
        }))
    }

    async fn batch_get_availability(
        &self,
        request: Request<pb::BatchGetAvailabilityRequest>,
    ) -> Result<Response<pb::BatchGetAvailabilityResponse>, Status> {
        let deadline = deadline_of(&request);
        let ids = decode::batch_ids(request.get_ref())?;
        let found = self.ledger.availability(ids.clone(), deadline).await;
        let found = found.map_err(|error| status::of(&error, &About::default()))?;
        let known: HashSet<_> = found.iter().map(|one| &one.event.id).collect();
        let missing = ids.iter().filter(|id| !known.contains(id)).map(ToString::to_string);
        Ok(Response::new(pb::BatchGetAvailabilityResponse {
            missing_event_ids: missing.collect(),
            availabilities: found.iter().map(encode::availability).collect(),
            server_time: Some(encode::timestamp(self.ledger.now())),
        }))
    }

    async fn list_event_counts(
        &self,
        request: Request<pb::ListEventCountsRequest>,
    ) -> Result<Response<pb::ListEventCountsResponse>, Status> {
        let deadline = deadline_of(&request);
        let (id, window, step) = counts::event_counts(request.get_ref())?;
        let samples = self.ledger.event_counts(id.clone(), window, step, deadline).await;
        let samples = samples.map_err(|error| status::of(&error, &About::event(&id)))?;
        Ok(Response::new(pb::ListEventCountsResponse {
            samples: samples.iter().map(encode::sample).collect(),
            server_time: Some(encode::timestamp(self.ledger.now())),
        }))
    }

    async fn verify_event(
        &self,
        request: Request<pb::VerifyEventRequest>,
    ) -> Result<Response<pb::VerifyEventResponse>, Status> {
        let deadline = deadline_of(&request);
        let id = decode::event_id(&request.get_ref().event_id)?;
        let audit =
            self.ledger.audit(id.clone(), deadline).await.map_err(|error| status::of(&error, &About::event(&id)))?;
        Ok(Response::new(encode::audit(&audit)))
    }
}
