//! The messages of WaitlistService.

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{
    frame::{Decoded, frame},
    target::{entry_target, event_or_user, states},
};
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

pub fn join(mut m: pb::JoinWaitlistRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "JoinWaitlist", defaults.waitlist, deadline, expected_event_version);
    let event_id = fields.event_id("event_id", &m.event_id);
    let user_id = fields.user_id("user_id", &m.user_id);
    let quantity = fields.number("quantity", m.quantity, &limits::QUANTITY);
    let min_quantity = fields.optional_number("min_quantity", m.min_quantity, &limits::QUANTITY);
    if quantity.zip(min_quantity.flatten()).is_some_and(|(quantity, min)| min > quantity) {
        fields.reject("min_quantity", "must not be more than quantity");
    }
    let labels = fields.labels("labels", m.labels);
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
    frame.decoded(fields, event_id, action)
}

pub fn leave(
    mut m: pb::LeaveWaitlistRequest,
    defaults: StrategyDefaults,
    deadline: Instant,
) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "LeaveWaitlist", defaults.waitlist, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = entry_target(&mut fields, m.entry);
    let action = target.map(|target| Action::Leave { target });
    frame.decoded(fields, event_id, action)
}

pub fn amend(
    mut m: pb::AmendWaitlistEntryRequest,
    defaults: StrategyDefaults,
    deadline: Instant,
) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "AmendWaitlistEntry", defaults.waitlist, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = entry_target(&mut fields, m.entry);
    let quantity = fields.optional_number("quantity", m.quantity, &limits::QUANTITY);
    let min_quantity = fields.optional_number("min_quantity", m.min_quantity, &limits::QUANTITY);
    if m.quantity.is_none() && m.min_quantity.is_none() {
        fields.reject("quantity", "or min_quantity must be set");
    }
    let action = || Some(Action::AmendEntry { target: target?, quantity: quantity?, min_quantity: min_quantity? });
    let action = action();
    frame.decoded(fields, event_id, action)
}

pub fn promote(
    mut m: pb::PromoteWaitlistEntryRequest,
    defaults: StrategyDefaults,
    deadline: Instant,
) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "PromoteWaitlistEntry", defaults.waitlist, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = entry_target(&mut fields, m.entry);
    let reason = fields.optional_note("reason", m.reason, limits::REASON);
    if reason == Some(None) {
        fields.reject("reason", "must be set");
    }
    let action = || Some(Action::PromoteEntry { target: target?, reason: reason?? });
    let action = action();
    frame.decoded(fields, event_id, action)
}

/// A policy; unset, that of an event without a waitlist.
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
            fields.reject("event.waitlist.max_skips", "must not be set with this order");
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
        join_before_booking: m.join_before_booking,
    })
}

/// What a page of entries holds, and how many.
pub fn list_filter(message: &pb::ListWaitlistRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let (event_id, user_id) = event_or_user(&mut fields, &message.event_id, &message.user_id);
    let states = states(&mut fields, &message.states, |state| match state {
        pb::WaitlistEntryState::Waiting | pb::WaitlistEntryState::Unspecified => EntryState::Waiting,
        pb::WaitlistEntryState::Promoted => EntryState::Promoted,
        pb::WaitlistEntryState::Left => EntryState::Left,
        pb::WaitlistEntryState::Ended => EntryState::Ended,
    });
    let size = fields.page_size(message.page_size);
    Ok((Filter { event_id, user_id, states }, fields.finish(size)?))
}

/// Where a page begins.
pub fn cursor(filters: &pb::ListWaitlistRequest, token: &str) -> Option<Cursor> {
    page_token::decode::<(EventId, i64)>(filters, token)
}
