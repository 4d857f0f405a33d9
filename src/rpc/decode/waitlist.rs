//! The messages of WaitlistService.

use std::mem::take;

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{Order, entry_target, fingerprint, order, request, reservation::frame, states};
use crate::{
    config::StrategyDefaults,
    domain::{
        command::{Action, Join},
        ids::{EventId, ReservationId},
        limits,
        waitlist::{EntryState, Policy},
    },
    rpc::{fields::Fields, page_token, pb},
    store::waitlist::{Cursor, Filter},
};

pub fn join(mut m: pb::JoinWaitlistRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("JoinWaitlist", &m);
    let how = frame.how(&mut fields, defaults.join_waitlist, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let user_id = fields.user_id("user_id", &m.user_id);
    let quantity = fields.number("quantity", m.quantity, &limits::QUANTITY);
    let min_quantity = fields.number_or_zero("min_quantity", m.min_quantity, &limits::QUANTITY);
    if quantity.zip(min_quantity.flatten()).is_some_and(|(quantity, min)| min > quantity) {
        fields.reject("min_quantity", "must not be more than quantity");
    }
    let labels = fields.labels("labels", m.labels);
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = || {
        Some(Action::Join(Join {
            id: ReservationId::of_waitlist(Uuid::now_v7()),
            user_id: user_id?,
            quantity: quantity?,
            min_quantity: min_quantity?.or(quantity)?,
            labels: labels?,
        }))
    };
    let action = action();
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}

pub fn leave(mut m: pb::LeaveWaitlistRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("LeaveWaitlist", &m);
    let how = frame.how(&mut fields, defaults.leave_waitlist, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = entry_target(&mut fields, m.entry);
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = target.map(|target| Action::Leave { target });
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}

/// A policy, or that of an event without a waitlist if unset.
pub fn policy(fields: &mut Fields, m: Option<pb::WaitlistPolicy>) -> Option<Policy> {
    let default = Policy::default();
    let Some(m) = m else { return Some(default) };
    let max_size = match m.max_size {
        None => Some(default.max_size),
        Some(value) => fields.number("event.waitlist.max_size", value, &limits::WAITLIST_SIZE),
    };
    let offer_ttl = fields.hold_ttl("event.waitlist.offer_ttl", m.offer_ttl);
    let skips = match m.order {
        0 => Some(false),
        other => fields
            .known::<pb::WaitlistOrder>("event.waitlist.order", other)
            .map(|order| order == pb::WaitlistOrder::SkipTooLarge),
    };
    let max_skips = match (skips, m.max_skips) {
        (Some(true), None) => Some(limits::DEFAULT_SKIPS),
        (Some(true), Some(value)) => fields.number("event.waitlist.max_skips", value, &limits::SKIPS),
        (Some(false), Some(_)) => {
            fields.reject("event.waitlist.max_skips", "must not be set where nobody is passed over");
            None
        }
        (Some(false) | None, _) => Some(0),
    };
    Some(Policy {
        enabled: m.enabled,
        max_size: max_size?,
        offer_ttl: offer_ttl?,
        max_skips: max_skips.filter(|_| skips.is_some())?,
        newcomers_may_overtake: m.newcomers_may_overtake,
    })
}

/// What a page of entries is to hold, and how many.
pub fn list_filter(message: &pb::ListWaitlistRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let mut filter = Filter::default();
    if !message.event_id.is_empty() {
        filter.event_id = fields.event_id("event_id", &message.event_id);
    }
    if !message.user_id.is_empty() {
        filter.user_id = fields.user_id("user_id", &message.user_id);
    }
    if message.event_id.is_empty() && message.user_id.is_empty() {
        fields.reject("event_id", "or user_id must be set");
    }
    filter.states = states(&mut fields, &message.states, |state| match state {
        pb::WaitlistEntryState::Waiting | pb::WaitlistEntryState::Unspecified => EntryState::Waiting,
        pb::WaitlistEntryState::Promoted => EntryState::Promoted,
        pb::WaitlistEntryState::Left => EntryState::Left,
        pb::WaitlistEntryState::Ended => EntryState::Ended,
    });
    let size = fields.page_size(message.page_size);
    Ok((filter, fields.finish(size)?))
}

/// Where a page begins.
pub fn cursor(filters: &pb::ListWaitlistRequest, token: &str) -> Option<Cursor> {
    page_token::decode::<(EventId, i64)>(filters, token)
}
