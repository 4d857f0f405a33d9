//! EventService: decode, one use case, encode.

use tonic::{Request, Response, Status};

use super::{
    decode::{self, Order, event as orders},
    encode,
    fields::Fields,
    layers::{auth::caller_of, deadline::deadline_of},
    page_token,
    pb::{self, event_service_server::EventService},
    status,
};
use crate::{
    domain::{event::EventState, ids::EventId, limits},
    ops::{Ledger, create_events::NewEvent, execute::Answer},
    store::events::{Cursor, Filter},
};

/// The service.
pub struct Events {
    ledger: Ledger,
}

impl Events {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    async fn carry_out(&self, (command, how): Order) -> Result<Answer, Status> {
        let event_id = command.event_id.clone();
        self.ledger.execute(command, how).await.map_err(|error| status::of(&error, Some(&event_id)))
    }
}

/// The handler of a mutation that answers with the event.
macro_rules! mutation {
    ($self:ident, $request:ident, $decode:path, $response:ident) => {{
        let (deadline, caller) = (deadline_of(&$request), caller_of(&$request)?);
        let outcome = $self.carry_out(decode::by($decode($request.into_inner(), deadline)?, caller)?).await?;
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
        let new = NewEvent { actor, ..orders::create_event(request.into_inner())? };
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
        let mut news = orders::batch_create_events(request.into_inner())?;
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
        let id = event_id(&request.get_ref().event_id)?;
        let event = self.ledger.event(id.clone(), deadline).await.map_err(|error| status::of(&error, Some(&id)))?;
        Ok(Response::new(pb::GetEventResponse { event: Some(encode::event(&event)) }))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let (deadline, mut message) = (deadline_of(&request), request.into_inner());
        let token = std::mem::take(&mut message.page_token);
        let (filter, size) = list_filter(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, cursor)?;
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
        mutation!(self, request, orders::update_event, UpdateEventResponse)
    }

    async fn open_event(
        &self,
        request: Request<pb::OpenEventRequest>,
    ) -> Result<Response<pb::OpenEventResponse>, Status> {
        mutation!(self, request, orders::open_event, OpenEventResponse)
    }

    async fn close_event(
        &self,
        request: Request<pb::CloseEventRequest>,
    ) -> Result<Response<pb::CloseEventResponse>, Status> {
        mutation!(self, request, orders::close_event, CloseEventResponse)
    }

    async fn cancel_event(
        &self,
        request: Request<pb::CancelEventRequest>,
    ) -> Result<Response<pb::CancelEventResponse>, Status> {
        let (deadline, caller) = (deadline_of(&request), caller_of(&request)?);
        let order = decode::by(orders::cancel_event(request.into_inner(), deadline)?, caller)?;
        let outcome = self.carry_out(order).await?;
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
        let id = event_id(&request.get_ref().event_id)?;
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
        let ids = batch_ids(request.get_ref())?;
        let found = self.ledger.availability(ids.clone(), deadline).await;
        let found = found.map_err(|error| status::of(&error, None))?;
        let known: std::collections::HashSet<_> = found.iter().map(|one| &one.event.id).collect();
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
        let id = event_id(&request.get_ref().event_id)?;
        let audit = self.ledger.audit(id.clone(), deadline).await.map_err(|error| status::of(&error, Some(&id)))?;
        Ok(Response::new(encode::audit(&audit)))
    }
}

fn event_id(text: &str) -> Result<EventId, Status> {
    let mut fields = Fields::default();
    let id = fields.event_id("event_id", text);
    fields.finish(id)
}

/// The ids of a batch, each once.
fn batch_ids(message: &pb::BatchGetAvailabilityRequest) -> Result<Vec<EventId>, Status> {
    let mut fields = Fields::default();
    let size = fields.batch("event_ids", message.event_ids.len());
    let mut ids = Vec::new();
    for (place, text) in message.event_ids.iter().enumerate().take(*limits::BATCH.end()) {
        ids.extend(fields.event_id(&format!("event_ids[{place}]"), text));
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    fields.finish(size.map(|()| ids))
}

fn list_filter(message: &pb::ListEventsRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let series = fields.optional_text("series", message.series.clone(), limits::SERIES);
    let venue = fields.optional_text("venue", message.venue.clone(), limits::SERIES);
    let states = decode::states(&mut fields, &message.states, |state| match state {
        pb::EventState::Open | pb::EventState::Unspecified => EventState::Open,
        pb::EventState::Closed => EventState::Closed,
        pb::EventState::Cancelled => EventState::Cancelled,
    });
    let start_from = fields.time("start_time_from", message.start_time_from);
    let start_before = fields.time("start_time_before", message.start_time_before);
    let size = fields.page_size(message.page_size);
    let all = || {
        let filter =
            Filter { series: series?, venue: venue?, states, start_from: start_from?, start_before: start_before? };
        Some((filter, size?))
    };
    let all = all();
    fields.finish(all)
}

fn cursor(filters: &pb::ListEventsRequest, token: &str) -> Option<Cursor> {
    page_token::decode(filters, token)
}
