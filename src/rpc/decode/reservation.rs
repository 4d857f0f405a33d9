//! The messages of ReservationService.

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{
    frame::{Decoded, exec_options, frame},
    target::{event_or_user, states, target},
};
use crate::{
    config::StrategyDefaults,
    domain::{
        command::{Action, Reserve, ReserveMode},
        ids::{EventId, ReservationId},
        limits,
        reservation::State,
    },
    rpc::{fields::Fields, page_token, pb},
    store::reservations::{Cursor, Filter},
};

pub fn reserve(mut m: pb::ReserveRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, "Reserve", exec_options!(m, fields, defaults.reserve, deadline));
    let event_id = fields.event_id("event_id", &m.event_id);
    let user_id = fields.user_id("user_id", &m.user_id);
    let quantity = fields.number("quantity", m.quantity, &limits::QUANTITY);
    if m.confirm && m.hold_ttl.is_some() {
        fields.reject("hold_ttl", "must not be set together with confirm");
    }
    let ttl = fields.hold_ttl("hold_ttl", m.hold_ttl);
    let labels = fields.labels("labels", m.labels);
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
    frame.decoded(fields, event_id, action)
}

pub fn confirm(mut m: pb::ConfirmRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, "Confirm", exec_options!(m, fields, defaults.confirm, deadline));
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.number_or_zero("quantity", m.quantity, &limits::QUANTITY);
    let action = target.zip(quantity).map(|(target, quantity)| Action::Confirm { target, quantity });
    frame.decoded(fields, event_id, action)
}

pub fn cancel(mut m: pb::CancelRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, "Cancel", exec_options!(m, fields, defaults.cancel, deadline));
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.number_or_zero("quantity", m.quantity, &limits::QUANTITY);
    let reason = fields.optional_text("reason", m.reason, limits::REASON);
    let action = || Some(Action::Cancel { target: target?, quantity: quantity?, reason: reason? });
    let action = action();
    frame.decoded(fields, event_id, action)
}

pub fn extend(mut m: pb::ExtendRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, "Extend", exec_options!(m, fields, defaults.extend, deadline));
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let ttl = fields.hold_ttl("ttl", m.ttl);
    let action = target.zip(ttl).map(|(target, ttl)| Action::Extend { target, ttl });
    frame.decoded(fields, event_id, action)
}

pub fn amend(mut m: pb::AmendRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, "Amend", exec_options!(m, fields, defaults.amend, deadline));
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
    let action = || Some(Action::Amend { target: target?, quantity: quantity?, labels: labels? });
    let action = action();
    frame.decoded(fields, event_id, action)
}

/// What a page of reservations holds, and how many.
pub fn list_filter(message: &pb::ListReservationsRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let (event_id, user_id) = event_or_user(&mut fields, &message.event_id, &message.user_id);
    let states = states(&mut fields, &message.states, |state| match state {
        pb::ReservationState::Held | pb::ReservationState::Unspecified => State::Held,
        pb::ReservationState::Confirmed => State::Confirmed,
        pb::ReservationState::Cancelled => State::Cancelled,
        pb::ReservationState::Expired => State::Expired,
    });
    let size = fields.page_size(message.page_size);
    Ok((Filter { event_id, user_id, states }, fields.finish(size)?))
}

/// Where a page begins.
pub fn cursor(filters: &pb::ListReservationsRequest, token: &str) -> Option<Cursor> {
    let (event_id, id): (EventId, String) = page_token::decode(filters, token)?;
    Some((event_id, ReservationId::parse(&id)?))
}
