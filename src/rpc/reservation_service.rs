//! ReservationService: decode, one use case, encode.

use tonic::{Request, Response, Status};

use super::{
    decode::{self, reservation},
    encode,
    execute::{current_reservation, execute, mutation},
    fields::Fields,
    layers::{
        auth::{caller_of, only_of},
        deadline::deadline_of,
    },
    page_token,
    pb::{self, reservation_service_server::ReservationService},
    status::{self, About},
};
use crate::{config::StrategyDefaults, domain::refusal::Refusal, ops::Ledger};

/// The service.
pub struct Reservations {
    ledger: Ledger,
    defaults: StrategyDefaults,
}

impl Reservations {
    pub fn new(ledger: Ledger, defaults: StrategyDefaults) -> Self {
        Self { ledger, defaults }
    }
}

#[tonic::async_trait]
impl ReservationService for Reservations {
    async fn reserve(&self, request: Request<pb::ReserveRequest>) -> Result<Response<pb::ReserveResponse>, Status> {
        mutation!(
            self,
            request,
            reservation::reserve,
            ReserveResponse { reservation: encode::changed_reservation, current: current_reservation }
        )
    }

    async fn confirm(&self, request: Request<pb::ConfirmRequest>) -> Result<Response<pb::ConfirmResponse>, Status> {
        mutation!(
            self,
            request,
            reservation::confirm,
            ConfirmResponse { reservation: encode::changed_reservation, current: current_reservation }
        )
    }

    async fn cancel(&self, request: Request<pb::CancelRequest>) -> Result<Response<pb::CancelResponse>, Status> {
        mutation!(
            self,
            request,
            reservation::cancel,
            CancelResponse { reservation: encode::changed_reservation, current: current_reservation }
        )
    }

    async fn extend(&self, request: Request<pb::ExtendRequest>) -> Result<Response<pb::ExtendResponse>, Status> {
        mutation!(
            self,
            request,
            reservation::extend,
            ExtendResponse { reservation: encode::changed_reservation, current: current_reservation }
        )
    }

    async fn amend(&self, request: Request<pb::AmendRequest>) -> Result<Response<pb::AmendResponse>, Status> {
        mutation!(
            self,
            request,
            reservation::amend,
            AmendResponse { reservation: encode::changed_reservation, current: current_reservation }
        )
    }

    async fn get_reservation(
        &self,
        request: Request<pb::GetReservationRequest>,
    ) -> Result<Response<pb::GetReservationResponse>, Status> {
        let caller = caller_of(&request)?;
        let (deadline, message) = (deadline_of(&request), request.into_inner());
        let mut fields = Fields::default();
        let event_id = fields.event_id("event_id", &message.event_id);
        let target = decode::target(&mut fields, message.reservation);
        let (event_id, target) = fields.finish(event_id.zip(target))?;
        let subject = About::reservation(&event_id, &target);
        let found = self.ledger.reservation(event_id, target, deadline).await;
        // Another user's looks as if it did not exist.
        let found = found.and_then(|found| match caller.may_act_for(&found.user_id) {
            true => Ok(found),
            false => Err(Refusal::ReservationNotFound.into()),
        });
        let found = found.map_err(|error| status::of(&error, &subject))?;
        Ok(Response::new(pb::GetReservationResponse {
            reservation: Some(encode::reservation(&found)),
            server_time: Some(encode::timestamp(self.ledger.now())),
        }))
    }

    async fn list_reservations(
        &self,
        request: Request<pb::ListReservationsRequest>,
    ) -> Result<Response<pb::ListReservationsResponse>, Status> {
        let only = only_of(&request)?;
        let (deadline, mut message) = (deadline_of(&request), request.into_inner());
        decode::restrict(&mut message.user_id, only)?;
        let token = std::mem::take(&mut message.page_token);
        let (filter, size) = reservation::list_filter(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, reservation::cursor)?;
        let subject = About { event_id: filter.event_id.clone(), ..About::default() };
        let page = self.ledger.list_reservations(filter, after, size, deadline).await;
        let page = page.map_err(|error| status::of(&error, &subject))?;
        let next = page
            .last_before_more()
            .map(|(start, last)| page_token::encode(&message, &(start, last.event_id.as_str(), last.id.to_string())));
        Ok(Response::new(pb::ListReservationsResponse {
            reservations: page.rows.iter().map(|(_, reservation)| encode::reservation(reservation)).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn search_reservations(
        &self,
        request: Request<pb::SearchReservationsRequest>,
    ) -> Result<Response<pb::SearchReservationsResponse>, Status> {
        let (deadline, mut message) = (deadline_of(&request), request.into_inner());
        let token = std::mem::take(&mut message.page_token);
        let (search, size) = reservation::search(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, reservation::search_cursor)?;
        let subject = About { event_id: search.event_id.clone(), ..About::default() };
        let page = self.ledger.search_reservations(search, after, size, deadline).await;
        let page = page.map_err(|error| status::of(&error, &subject))?;
        let last = page.last_before_more();
        let next = last.map(|last| page_token::encode(&message, &(last.id.to_string(), last.event_id.as_str())));
        Ok(Response::new(pb::SearchReservationsResponse {
            reservations: page.rows.iter().map(encode::reservation).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
