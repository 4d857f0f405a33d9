//! The messages that change an event's state.

use tokio::time::Instant;
use tonic::Status;

use super::frame::{Decoded, frame};
use crate::{
    config::StrategyDefaults,
    domain::{command::Action, limits},
    rpc::{fields::Fields, pb},
};

pub fn open(mut m: pb::OpenEventRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "OpenEvent", defaults.events, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    frame.decoded(fields, event_id, Some(Action::OpenEvent))
}

pub fn close(mut m: pb::CloseEventRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "CloseEvent", defaults.events, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    frame.decoded(fields, event_id, Some(Action::CloseEvent))
}

pub fn cancel(mut m: pb::CancelEventRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "CancelEvent", defaults.events, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let reason = fields.optional_note("reason", m.reason, limits::REASON);
    frame.decoded(fields, event_id, reason.map(|reason| Action::CancelEvent { reason }))
}

pub fn delete(mut m: pb::DeleteEventRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "DeleteEvent", defaults.events, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    frame.decoded(fields, event_id, Some(Action::DeleteEvent))
}
