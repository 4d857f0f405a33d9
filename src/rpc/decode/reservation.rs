//! The messages of ReservationService.

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{
    frame::{Decoded, frame},
    target::{event_or_user, states, target},
};
use crate::{
    config::StrategyDefaults,
    domain::{
        command::{Action, Reserve, ReserveMode},
        ids::{EventId, ReservationId},
        limits,
        reservation::State,
        time::Timestamp,
    },
    rpc::{
        fields::{Fields, quoted},
        page_token, pb,
    },
    store::reservations::{Cursor, Filter, Order, Search, SearchCursor},
};

pub fn reserve(mut m: pb::ReserveRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "Reserve", defaults.reserve, deadline, expected_event_version);
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
    let frame = frame!(m, fields, "Confirm", defaults.confirm, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.optional_number("quantity", m.quantity, &limits::QUANTITY);
    let action = target.zip(quantity).map(|(target, quantity)| Action::Confirm { target, quantity });
    frame.decoded(fields, event_id, action)
}

pub fn cancel(mut m: pb::CancelRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "Cancel", defaults.cancel, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.optional_number("quantity", m.quantity, &limits::QUANTITY);
    if m.quantity.is_some() && frame.request_id.is_empty() && frame.etag.is_empty() {
        fields.reject("request_id", "or etag must be set where quantity is, so that a repetition cancels no more");
    }
    let reason = fields.optional_note("reason", m.reason, limits::REASON);
    let action = || Some(Action::Cancel { target: target?, quantity: quantity?, reason: reason? });
    let action = action();
    frame.decoded(fields, event_id, action)
}

pub fn extend(mut m: pb::ExtendRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "Extend", defaults.extend, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let ttl = fields.hold_ttl("ttl", m.ttl);
    let action = target.zip(ttl).map(|(target, ttl)| Action::Extend { target, ttl });
    frame.decoded(fields, event_id, action)
}

pub fn amend(mut m: pb::AmendRequest, defaults: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "Amend", defaults.amend, deadline, etag);
    let event_id = fields.event_id("event_id", &m.event_id);
    let target = target(&mut fields, m.reservation);
    let quantity = fields.optional_number("quantity", m.quantity, &limits::QUANTITY);
    let (has_quantity, has_labels) = (m.quantity.is_some(), !m.labels.is_empty());
    let labels = fields.labels("labels", m.labels);
    let (takes_quantity, takes_labels) = amended(&mut fields, m.update_mask, has_quantity, has_labels);
    if takes_quantity && !has_quantity {
        fields.reject("quantity", "must be set, since update_mask names it");
    }
    let quantity = quantity.map(|quantity| quantity.filter(|_| takes_quantity));
    let labels = labels.map(|labels| takes_labels.then_some(labels));
    let action = || Some(Action::Amend { target: target?, quantity: quantity?, labels: labels? });
    let action = action();
    frame.decoded(fields, event_id, action)
}

/// Whether an Amend changes the quantity, and whether the labels.
fn amended(
    fields: &mut Fields,
    mask: Option<prost_types::FieldMask>,
    has_quantity: bool,
    has_labels: bool,
) -> (bool, bool) {
    let paths = mask.unwrap_or_default().paths;
    if paths.is_empty() {
        if !has_quantity && !has_labels {
            fields.reject("update_mask", "or quantity or labels must be set");
        }
        return (has_quantity, has_labels);
    }
    for path in paths.iter().filter(|path| !matches!(path.as_str(), "quantity" | "labels" | "*")) {
        fields.reject("update_mask", format!("{} is not a field that can be changed", quoted(path)));
    }
    let names = |field| paths.iter().any(|path| path == field || path == "*");
    (names("quantity"), names("labels"))
}

/// What a page of reservations holds, and how many.
pub fn list_filter(message: &pb::ListReservationsRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let (event_id, user_id) = event_or_user(&mut fields, &message.event_id, &message.user_id);
    let states = states(&mut fields, &message.states, state_of);
    let order = match message.order {
        0 => Some(Order::Event),
        other => fields.known::<pb::ReservationOrder>("order", other).map(order_of),
    };
    if message.user_id.is_empty() && order.is_some_and(|order| order != Order::Event) {
        fields.reject("order", "must be RESERVATION_ORDER_EVENT_ID where user_id is empty");
    }
    let size = fields.page_size(message.page_size);
    let (order, size) = fields.finish(order.zip(size))?;
    Ok((Filter { event_id, user_id, states, order }, size))
}

fn order_of(order: pb::ReservationOrder) -> Order {
    match order {
        pb::ReservationOrder::EventId | pb::ReservationOrder::Unspecified => Order::Event,
        pb::ReservationOrder::StartTime => Order::Start,
        pb::ReservationOrder::StartTimeDesc => Order::LatestStart,
        pb::ReservationOrder::NewestFirst => Order::Newest,
    }
}

fn state_of(state: pb::ReservationState) -> State {
    match state {
        pb::ReservationState::Held | pb::ReservationState::Unspecified => State::Held,
        pb::ReservationState::Confirmed => State::Confirmed,
        pb::ReservationState::Cancelled => State::Cancelled,
        pb::ReservationState::Expired => State::Expired,
    }
}

/// What a search looks for, and the size of its pages.
pub fn search(message: &pb::SearchReservationsRequest) -> Result<(Search, u32), Status> {
    let mut fields = Fields::default();
    let event_id = match message.event_id.as_str() {
        "" => None,
        text => fields.event_id("event_id", text),
    };
    // What is the beginning of a user_id is one.
    let user_id_prefix = match message.user_id_prefix.as_str() {
        "" => None,
        text => fields.user_id("user_id_prefix", text).map(String::from),
    };
    if message.event_id.is_empty() && message.user_id_prefix.is_empty() && message.label.is_none() {
        fields.reject("event_id", "or user_id_prefix or label must be set");
    }
    let label = message.label.clone().and_then(|label| fields.labels("label", [(label.key, label.value)].into()));
    let states = states(&mut fields, &message.states, state_of);
    let from = fields.bound("create_time_from", message.create_time_from).flatten();
    let before = fields.bound("create_time_before", message.create_time_before).flatten();
    let size = fields.page_size(message.page_size);
    Ok((Search { event_id, user_id_prefix, label, states, from, before }, fields.finish(size)?))
}

/// Where a page of a search begins.
pub fn search_cursor(filters: &pb::SearchReservationsRequest, token: &str) -> Option<SearchCursor> {
    let (id, event_id): (String, EventId) = page_token::decode(filters, token)?;
    Some((ReservationId::parse(&id)?, event_id))
}

/// Where a page begins.
pub fn cursor(filters: &pb::ListReservationsRequest, token: &str) -> Option<Cursor> {
    let (start, event_id, id): (Option<Timestamp>, EventId, String) = page_token::decode(filters, token)?;
    Some((start, event_id, ReservationId::parse(&id)?))
}
