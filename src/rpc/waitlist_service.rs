//! WaitlistService: decode, one use case, encode.

use tonic::{Request, Response, Status};

use super::{
    decode::{self, waitlist},
    encode,
    execute::{current_entry, current_reservation, execute, mutation},
    fields::Fields,
    layers::{
        auth::{caller_of, only_of},
        deadline::deadline_of,
    },
    page_token,
    pb::{self, waitlist_service_server::WaitlistService},
    status::{self, About},
};
use crate::{config::StrategyDefaults, domain::refusal::Refusal, ops::Ledger};

/// The service.
pub struct Waitlists {
    ledger: Ledger,
    defaults: StrategyDefaults,
}

impl Waitlists {
    pub fn new(ledger: Ledger, defaults: StrategyDefaults) -> Self {
        Self { ledger, defaults }
    }
}

#[tonic::async_trait]
impl WaitlistService for Waitlists {
    async fn join_waitlist(
        &self,
        request: Request<pb::JoinWaitlistRequest>,
    ) -> Result<Response<pb::JoinWaitlistResponse>, Status> {
        mutation!(
            self,
            request,
            waitlist::join,
            JoinWaitlistResponse { entry: encode::changed_entry, current: current_entry }
        )
    }

    async fn leave_waitlist(
        &self,
        request: Request<pb::LeaveWaitlistRequest>,
    ) -> Result<Response<pb::LeaveWaitlistResponse>, Status> {
        mutation!(
            self,
            request,
            waitlist::leave,
            LeaveWaitlistResponse { entry: encode::changed_entry, current: current_entry }
        )
    }

    async fn amend_waitlist_entry(
        &self,
        request: Request<pb::AmendWaitlistEntryRequest>,
    ) -> Result<Response<pb::AmendWaitlistEntryResponse>, Status> {
        mutation!(
            self,
            request,
            waitlist::amend,
            AmendWaitlistEntryResponse { entry: encode::changed_entry, current: current_entry }
        )
    }

    async fn promote_waitlist_entry(
        &self,
        request: Request<pb::PromoteWaitlistEntryRequest>,
    ) -> Result<Response<pb::PromoteWaitlistEntryResponse>, Status> {
        mutation!(
            self,
            request,
            waitlist::promote,
            PromoteWaitlistEntryResponse { reservation: encode::changed_reservation, current: current_reservation }
        )
    }

    async fn get_waitlist_entry(
        &self,
        request: Request<pb::GetWaitlistEntryRequest>,
    ) -> Result<Response<pb::GetWaitlistEntryResponse>, Status> {
        let caller = caller_of(&request)?;
        let (deadline, message) = (deadline_of(&request), request.into_inner());
        let mut fields = Fields::default();
        let event_id = fields.event_id("event_id", &message.event_id);
        let target = decode::entry_target(&mut fields, message.entry);
        let (event_id, target) = fields.finish(event_id.zip(target))?;
        let subject = About::entry(&event_id, &target);
        let found = self.ledger.waitlist_entry(event_id, target, deadline).await;
        // Another user's looks as if it did not exist.
        let found = found.and_then(|(entry, ahead)| match caller.may_act_for(&entry.user_id) {
            true => Ok((entry, ahead)),
            false => Err(Refusal::EntryNotFound.into()),
        });
        let (entry, ahead) = found.map_err(|error| status::of(&error, &subject))?;
        let position = if entry.waits() { ahead.parties + 1 } else { 0 };
        Ok(Response::new(pb::GetWaitlistEntryResponse {
            entry: Some(encode::waitlist_entry(&entry)),
            position: position.cast_signed(),
            units_ahead: ahead.units.cast_signed(),
            position_is_lower_bound: ahead.is_lower_bound(),
            server_time: Some(encode::timestamp(self.ledger.now())),
        }))
    }

    async fn list_waitlist(
        &self,
        request: Request<pb::ListWaitlistRequest>,
    ) -> Result<Response<pb::ListWaitlistResponse>, Status> {
        let only = only_of(&request)?;
        let (deadline, mut message) = (deadline_of(&request), request.into_inner());
        decode::restrict(&mut message.user_id, only)?;
        let token = std::mem::take(&mut message.page_token);
        let (filter, size) = waitlist::list_filter(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, waitlist::cursor)?;
        let subject = About { event_id: filter.event_id.clone(), ..About::default() };
        let page = self.ledger.list_waitlist(filter, after, size, deadline).await;
        let page = page.map_err(|error| status::of(&error, &subject))?;
        let last = page.last_before_more();
        let next = last.map(|last| page_token::encode(&message, &(&last.event_id, last.ticket)));
        Ok(Response::new(pb::ListWaitlistResponse {
            entries: page.rows.iter().map(encode::waitlist_entry).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
