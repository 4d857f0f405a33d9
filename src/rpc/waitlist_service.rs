//! WaitlistService: decode, one use case, encode.

use tonic::{Request, Response, Status};

use super::{
    decode::{self, Order, waitlist as orders},
    encode,
    fields::Fields,
    layers::{
        auth::{caller_of, only_of},
        deadline::deadline_of,
    },
    page_token,
    pb::{self, waitlist_service_server::WaitlistService},
    status,
};
use crate::{
    config::StrategyDefaults,
    domain::refusal::Refusal,
    ops::{Ledger, execute::Answer},
};

/// The service.
pub struct Waitlists {
    ledger: Ledger,
    defaults: StrategyDefaults,
}

impl Waitlists {
    pub fn new(ledger: Ledger, defaults: StrategyDefaults) -> Self {
        Self { ledger, defaults }
    }

    async fn carry_out(&self, (command, how): Order) -> Result<Answer, Status> {
        let event_id = command.event_id.clone();
        self.ledger.execute(command, how).await.map_err(|error| status::of(&error, Some(&event_id)))
    }
}

#[tonic::async_trait]
impl WaitlistService for Waitlists {
    async fn join_waitlist(
        &self,
        request: Request<pb::JoinWaitlistRequest>,
    ) -> Result<Response<pb::JoinWaitlistResponse>, Status> {
        let (deadline, caller) = (deadline_of(&request), caller_of(&request)?);
        let order = decode::by(orders::join(request.into_inner(), self.defaults, deadline)?, caller)?;
        let outcome = self.carry_out(order).await?;
        Ok(Response::new(pb::JoinWaitlistResponse {
            entry: encode::changed_entry(&outcome.change),
            execution: Some(encode::execution(&outcome)),
        }))
    }

    async fn leave_waitlist(
        &self,
        request: Request<pb::LeaveWaitlistRequest>,
    ) -> Result<Response<pb::LeaveWaitlistResponse>, Status> {
        let (deadline, caller) = (deadline_of(&request), caller_of(&request)?);
        let order = decode::by(orders::leave(request.into_inner(), self.defaults, deadline)?, caller)?;
        let outcome = self.carry_out(order).await?;
        Ok(Response::new(pb::LeaveWaitlistResponse {
            entry: encode::changed_entry(&outcome.change),
            execution: Some(encode::execution(&outcome)),
        }))
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
        let found = self.ledger.waitlist_entry(event_id.clone(), target, deadline).await;
        // Somebody else's is not there at all.
        let found = found.and_then(|(entry, ahead)| match caller.may_act_for(&entry.user_id) {
            true => Ok((entry, ahead)),
            false => Err(Refusal::EntryNotFound.into()),
        });
        let (entry, ahead) = found.map_err(|error| status::of(&error, Some(&event_id)))?;
        let position = if entry.waits() { ahead.parties + 1 } else { 0 };
        Ok(Response::new(pb::GetWaitlistEntryResponse {
            entry: Some(encode::waitlist_entry(&entry)),
            position: position.cast_signed(),
            units_ahead: ahead.units.cast_signed(),
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
        let (filter, size) = orders::list_filter(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, orders::cursor)?;
        let page = self.ledger.list_waitlist(filter, after, size, deadline).await;
        let page = page.map_err(|error| status::of(&error, None))?;
        let last = page.last_before_more();
        let next = last.map(|last| page_token::encode(&message, &(&last.event_id, last.ticket)));
        Ok(Response::new(pb::ListWaitlistResponse {
            entries: page.rows.iter().map(encode::waitlist_entry).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
