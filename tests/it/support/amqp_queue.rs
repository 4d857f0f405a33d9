//! A durable queue bound to the exchange of changes, with a consumer, as another service would have.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use lapin::{
    Channel, Connection, Consumer, ExchangeKind,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use reservd::{broker::format::PROTOBUF, config::PayloadFormat, rpc::pb};

use super::{TestBroker, soon};

/// The queue, and a consumer of it.
pub struct AmqpQueue {
    name: String,
    exchange: String,
    channel: Channel,
    consumer: Consumer,
    _connection: Connection,
}

/// A message with a change.
#[derive(Clone, Debug)]
pub struct ReceivedChange {
    pub routing_key: String,
    pub message_id: String,
    pub content_type: String,
    pub is_persistent: bool,
    /// The attributes of the CloudEvent.
    pub attributes: BTreeMap<String, String>,
    pub change: pb::Change,
}

impl ReceivedChange {
    fn of(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let text =
            |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        let content_type = text(properties.content_type());
        let format = if content_type == PROTOBUF { PayloadFormat::Protobuf } else { PayloadFormat::Json };
        let headers = properties.headers().clone().unwrap_or_default();
        let attributes = headers.inner().iter().map(|(name, value)| {
            let AMQPValue::LongString(value) = value else { panic!("{name} is not text") };
            let name = name.as_str().strip_prefix("cloudEvents_").expect("every header is an attribute");
            (name.to_owned(), value.to_string())
        });
        Self {
            routing_key: delivery.routing_key.to_string(),
            message_id: text(properties.message_id()),
            is_persistent: *properties.delivery_mode() == Some(2),
            attributes: attributes.collect(),
            change: format.read("reservd.v1.Change", &delivery.data).expect("a change"),
            content_type,
        }
    }

    /// The event and the version of the change.
    pub fn place(&self) -> (String, i64) {
        (self.change.event_id.clone(), self.change.version)
    }
}

impl AmqpQueue {
    /// A queue for changes with a routing key that matches one of `keys`.
    pub async fn open(broker: &TestBroker, keys: &[&str]) -> Self {
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        let (exchange, name) = (broker.exchange.clone(), format!("queue-{}", broker.exchange));
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared =
            channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default());
        declared.await.expect("the exchange has the properties that the service declares");
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.as_str().into(), durable, FieldTable::default()).await.expect("a queue");
        let consumer = channel
            .basic_consume(name.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .expect("a consumer");
        let queue = Self { name, exchange, channel, consumer, _connection: connection };
        for key in keys {
            queue.bind(key).await;
        }
        queue
    }

    /// The name of the queue.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a routing key.
    pub async fn bind(&self, key: &str) {
        let (queue, exchange) = (self.name.as_str().into(), self.exchange.as_str().into());
        let bound =
            self.channel.queue_bind(queue, exchange, key.into(), QueueBindOptions::default(), FieldTable::default());
        bound.await.expect("it can be bound");
    }

    /// The next message; none once the broker is gone.
    pub async fn try_next(&mut self) -> Option<ReceivedChange> {
        let delivery = soon("a change is delivered", self.consumer.next()).await?.ok()?;
        let message = ReceivedChange::of(&delivery);
        delivery.ack(BasicAckOptions::default()).await.ok()?;
        Some(message)
    }

    /// The next message.
    pub async fn next(&mut self) -> ReceivedChange {
        self.try_next().await.expect("the broker is up")
    }

    /// The next messages.
    pub async fn take(&mut self, count: usize) -> Vec<ReceivedChange> {
        let mut received = Vec::new();
        while received.len() < count {
            received.push(self.next().await);
        }
        received
    }

    /// The messages until each of these changes has arrived, duplicates included.
    pub async fn until(&mut self, mut places: BTreeSet<(String, i64)>) -> Vec<ReceivedChange> {
        let mut received = Vec::new();
        while !places.is_empty() {
            let message = self.next().await;
            places.remove(&message.place());
            received.push(message);
        }
        received
    }
}

/// Asserts that the first copies of each event's changes arrive in order and without a gap, and that other copies are
/// equal to the first.
pub fn assert_in_order(received: &[ReceivedChange]) {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut first: BTreeMap<(String, i64), &ReceivedChange> = BTreeMap::new();
    for message in received {
        let (event_id, version) = message.place();
        assert_eq!(message.message_id, format!("{event_id}/{version}"));
        match first.get(&(event_id, version)) {
            Some(original) => assert_eq!(original.change, message.change, "two changes have the same id"),
            None => {
                let before = newest.insert(&message.change.event_id, version).unwrap_or(0);
                assert_eq!(version, before + 1, "of {}", message.change.event_id);
                first.insert(message.place(), message);
            }
        }
    }
}
