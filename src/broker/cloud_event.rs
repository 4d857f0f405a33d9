//! A change as a CloudEvent 1.0, in the binary content mode of the AMQP binding: the attributes are headers with the
//! prefix `cloudEvents_` (the one of the two allowed prefixes that JMS can read), the data is the body, and its type
//! is `content_type`. So a consumer can route and sort messages without decoding them. Source: github.com/cloudevents/spec, `cloudevents/bindings/amqp-protocol-binding.md`, 3.1.

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
/// The full name of the message type in the body.
const CHANGE: &str = "reservd.v1.Change";

/// The routing key of a change.
pub const fn routing_key(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::EventCreated => "event.created",
        ChangeKind::EventUpdated => "event.updated",
        ChangeKind::EventOpened => "event.opened",
        ChangeKind::EventClosed => "event.closed",
        ChangeKind::EventCancelled => "event.cancelled",
        ChangeKind::EventDeleted => "event.deleted",
        ChangeKind::ReservationHeld => "reservation.held",
        ChangeKind::ReservationConfirmed => "reservation.confirmed",
        ChangeKind::ReservationExtended => "reservation.extended",
        ChangeKind::ReservationAmended => "reservation.amended",
        ChangeKind::ReservationReduced => "reservation.reduced",
        ChangeKind::ReservationCancelled => "reservation.cancelled",
        ChangeKind::ReservationExpired => "reservation.expired",
        ChangeKind::WaitlistJoined => "waitlist.joined",
        ChangeKind::WaitlistPromoted => "waitlist.promoted",
        ChangeKind::WaitlistAmended => "waitlist.amended",
        ChangeKind::WaitlistLeft => "waitlist.left",
        ChangeKind::WaitlistEnded => "waitlist.ended",
    }
}

/// The id of a change, the same in every copy.
pub fn id(event_id: &EventId, version: i64) -> String {
    format!("{event_id}/{version}")
}

/// The record of a change that the broker returns because no queue matches.
pub fn returned(change: &Change) -> Returned {
    Returned { event_id: change.event_id().clone(), version: change.version, routing_key: routing_key(change.kind) }
}

/// The message for a change.
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
        // Extensions: the key within which changes are ordered, and the position in that order, comparable as text.
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
