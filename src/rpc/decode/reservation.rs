//! The mutations of ReservationService.

use std::mem::take;

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{Order, fingerprint, lock_wait_of, order, request, strategy_of, target};
use crate::{
    config::{Strategy, StrategyDefaults},
    domain::{
        command::{Action, Reserve, ReserveMode},
        ids::ReservationId,
        limits,
    },
    ops::execute::ExecOptions,
    rpc::{fields::Fields, pb},
    store::LockWait,
};

/// What is common to the mutations of reservations and of the waitlist.
pub(super) struct Frame {
    pub(super) request_id: String,
    pub(super) options: Option<pb::ExecutionOptions>,
    pub(super) validate_only: bool,
}

/// Takes out of a message what its fingerprint does not cover.
macro_rules! frame {
    ($message:ident) => {
        $crate::rpc::decode::reservation::Frame {
            request_id: take(&mut $message.request_id),
            options: $message.options.take(),
            validate_only: take(&mut $message.validate_only),
        }
    };
}

pub(super) use frame;

impl Frame {
    pub(super) fn how(&self, fields: &mut Fields, default: Strategy, deadline: Instant) -> Option<ExecOptions> {
        let options = self.options.unwrap_or_default();
        let strategy = match options.strategy {
            0 => Some(default),
            other => fields.known::<pb::Strategy>("options.strategy", other).map(strategy_of),
        };
        let lock_wait = match options.lock_wait {
            0 => Some(LockWait::Wait),
            other => fields.known::<pb::LockWait>("options.lock_wait", other).map(lock_wait_of),
        };
        Some(ExecOptions { strategy: strategy?, lock_wait: lock_wait?, deadline, validate_only: self.validate_only })
    }
}

pub fn reserve(mut m: pb::ReserveRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("Reserve", &m);
    let how = frame.how(&mut fields, defaults.reserve, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let user_id = fields.user_id("user_id", &m.user_id);
    let quantity = fields.number("quantity", m.quantity, &limits::QUANTITY);
    if m.confirm && m.hold_ttl.is_some() {
        fields.reject("hold_ttl", "must not be set together with confirm");
    }
    let ttl = fields.hold_ttl("hold_ttl", m.hold_ttl);
    let labels = fields.labels("labels", m.labels);
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = || {
        Some(Action::Reserve(Reserve {
            id: ReservationId(Uuid::now_v7()),
            user_id: user_id?,
            quantity: quantity?,
            mode: if m.confirm { ReserveMode::Confirm } else { ReserveMode::Hold(ttl?) },
            labels: labels?,
        }))
    };
    let action = action();
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}

pub fn confirm(mut m: pb::ConfirmRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("Confirm", &m);
    let how = frame.how(&mut fields, defaults.confirm, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.number_or_zero("quantity", m.quantity, &limits::QUANTITY);
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = target.zip(quantity).map(|(target, quantity)| Action::Confirm { target, quantity });
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}

pub fn cancel(mut m: pb::CancelRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("Cancel", &m);
    let how = frame.how(&mut fields, defaults.cancel, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.number_or_zero("quantity", m.quantity, &limits::QUANTITY);
    let reason = fields.optional_text("reason", m.reason, limits::REASON);
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = || Some(Action::Cancel { target: target?, quantity: quantity?, reason: reason? });
    let action = action();
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}

pub fn extend(mut m: pb::ExtendRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("Extend", &m);
    let how = frame.how(&mut fields, defaults.extend, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let ttl = fields.hold_ttl("ttl", m.ttl);
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = target.zip(ttl).map(|(target, ttl)| Action::Extend { target, ttl });
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}

pub fn amend(mut m: pb::AmendRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Order, Status> {
    let (frame, mut fields) = (frame!(m), Fields::default());
    let print = fingerprint("Amend", &m);
    let how = frame.how(&mut fields, defaults.amend, deadline);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.number_or_zero("quantity", m.quantity, &limits::QUANTITY);
    if m.clear_labels && !m.labels.is_empty() {
        fields.reject("clear_labels", "must not be set together with labels");
    }
    let is_relabelled = m.clear_labels || !m.labels.is_empty();
    if m.quantity == 0 && !is_relabelled {
        fields.reject("quantity", "or labels or clear_labels must be set");
    }
    let labels = fields.labels("labels", m.labels).map(|labels| is_relabelled.then_some(labels));
    let etag = fields.etag("etag", m.etag);
    let request_id = fields.request_id("request_id", &frame.request_id);
    let action = || Some(Action::Amend { target: target?, quantity: quantity?, labels: labels? });
    let action = action();
    order(fields, event_id, action, etag, request_id.map(|id| request(id, print)), how)
}
