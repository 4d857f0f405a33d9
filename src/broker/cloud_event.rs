//! A change as a CloudEvent 1.0, in the binary content mode of the protocol binding for AMQP: the
//! attributes are headers with the prefix `cloudEvents_` (of the two that are allowed the one that JMS can
//! read), the data is the body, its type `content_type`. So a consumer can route and sort messages without reading them.
//! Source: github.com/cloudevents/spec, `cloudevents/bindings/amqp-protocol-binding.md`, 3.1.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::link::Message;
use crate::{
    config::Broker,
    domain::{
        change::{Change, ChangeKind, Subject},
        ids::EventId,
        relay::Returned,
    },
    rpc::{encode, status::rfc3339},
};

/// `delivery_mode` of a message that survives a restart of the broker.
pub const PERSISTENT: u8 = 2;
/// The full name of the message in the body.
const CHANGE: &str = "reservd.v1.Change";

/// What a change is routed by.
pub const fn routing_key(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::EventCreated => "event.created",
        ChangeKind::EventUpdated => "event.updated",
        ChangeKind::EventOpened => "event.opened",
        ChangeKind::EventClosed => "event.closed",
        ChangeKind::EventCancelled => "event.cancelled",
        ChangeKind::Held => "reservation.held",
        ChangeKind::Confirmed => "reservation.confirmed",
        ChangeKind::Extended => "reservation.extended",
        ChangeKind::Amended => "reservation.amended",
        ChangeKind::Reduced => "reservation.reduced",
        ChangeKind::Cancelled => "reservation.cancelled",
        ChangeKind::Expired => "reservation.expired",
        ChangeKind::WaitlistJoined => "waitlist.joined",
        ChangeKind::WaitlistPromoted => "waitlist.promoted",
        ChangeKind::WaitlistLeft => "waitlist.left",
        ChangeKind::WaitlistEnded => "waitlist.ended",
    }
}

/// Names a change for good; the same in every copy of it. An event's id may have a slash, so the
/// version is what comes after the last one.
pub fn id(event_id: &EventId, version: i64) -> String {
    format!("{event_id}/{version}")
}

/// The record of a change, should the broker have no queue for it.
pub fn returned(change: &Change) -> Returned {
    Returned { event_id: change.event_id().clone(), version: change.version, routing_key: routing_key(change.kind) }
}

/// The message that tells of `change`.
pub fn message(change: &Change, settings: &Broker) -> Message {
    let (event_id, key) = (change.event_id(), routing_key(change.kind));
    let id = id(event_id, change.version);
    let kind = format!("reservd.v1.{key}");
    let subject = match &change.subject {
        Subject::Reservation(reservation) => reservation.id.to_string(),
        Subject::Entry(entry) => entry.id.to_string(),
        Subject::Event(_) => event_id.to_string(),
    };
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", &id),
        ("source", &settings.source),
        ("type", &kind),
        ("subject", &subject),
        ("time", &rfc3339(change.time).unwrap_or_default()),
        // Extensions: what must stay in order together, and the place in that order, which compares as text.
        ("partitionkey", event_id.as_str()),
        ("sequence", &format!("{:019}", change.version)),
    ] {
        headers.insert(format!("cloudEvents_{name}").into(), AMQPValue::LongString(value.into()));
    }
    let seconds = u64::try_from(change.time.micros() / 1_000_000).unwrap_or(0);
    Message {
        exchange: settings.exchange.clone(),
        routing_key: key.into(),
        properties: BasicProperties::default()
            .with_content_type(settings.format.content_type().into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.into())
            .with_type(kind.into())
            .with_timestamp(seconds)
            .with_headers(headers),
        body: settings.format.write(CHANGE, &encode::change(change)),
    }
}
