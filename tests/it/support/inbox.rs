//! A consumer of changes as another service has one: a durable queue, bound to the exchange.

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
pub struct Inbox {
    queue: String,
    exchange: String,
    channel: Channel,
    consumer: Consumer,
    _connection: Connection,
}

/// A change as it was received.
#[derive(Clone, Debug)]
pub struct Letter {
    pub routing_key: String,
    pub message_id: String,
    pub content_type: String,
    pub is_persistent: bool,
    /// The attributes of the CloudEvent.
    pub attributes: BTreeMap<String, String>,
    pub change: pb::Change,
}

impl Letter {
    fn of(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let text =
            |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        let content_type = text(properties.content_type());
        let format = if content_type == PROTOBUF { PayloadFormat::Protobuf } else { PayloadFormat::Json };
        let headers = properties.headers().clone().unwrap_or_default();
        let attributes = headers.inner().iter().map(|(name, value)| {
            let AMQPValue::LongString(value) = value else { panic!("{name} is no text") };
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

    /// What names the change.
    pub fn place(&self) -> (String, i64) {
        (self.change.event_id.clone(), self.change.version)
    }
}

impl Inbox {
    /// For changes with a key that matches one of `keys`.
    pub async fn open(broker: &TestBroker, keys: &[&str]) -> Self {
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        let (exchange, queue) = (broker.exchange.clone(), format!("inbox-{}", broker.exchange));
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared =
            channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default());
        declared.await.expect("the exchange is as the service makes it");
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.expect("a queue");
        let consumer = channel
            .basic_consume(queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .expect("a consumer");
        let inbox = Self { queue, exchange, channel, consumer, _connection: connection };
        for key in keys {
            inbox.bind(key).await;
        }
        inbox
    }

    /// The name of the queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Takes changes with a key that matches `key` from now on.
    pub async fn bind(&self, key: &str) {
        let (queue, exchange) = (self.queue.as_str().into(), self.exchange.as_str().into());
        let bound =
            self.channel.queue_bind(queue, exchange, key.into(), QueueBindOptions::default(), FieldTable::default());
        bound.await.expect("it can be bound");
    }

    /// The next one; none once the broker is gone.
    pub async fn try_next(&mut self) -> Option<Letter> {
        let delivery = soon("a change is delivered", self.consumer.next()).await?.ok()?;
        let letter = Letter::of(&delivery);
        delivery.ack(BasicAckOptions::default()).await.ok()?;
        Some(letter)
    }

    /// The next one.
    pub async fn next(&mut self) -> Letter {
        self.try_next().await.expect("the broker is there")
    }

    /// The next ones.
    pub async fn take(&mut self, count: usize) -> Vec<Letter> {
        let mut letters = Vec::new();
        while letters.len() < count {
            letters.push(self.next().await);
        }
        letters
    }

    /// Everything up to a change of every one of these places; duplicates too.
    pub async fn until(&mut self, mut places: BTreeSet<(String, i64)>) -> Vec<Letter> {
        let mut letters = Vec::new();
        while !places.is_empty() {
            let letter = self.next().await;
            places.remove(&letter.place());
            letters.push(letter);
        }
        letters
    }
}

/// Makes sure that each event's versions came in order and without a gap, as far as they came for the
/// first time; and that a copy is a copy.
pub fn assert_in_order(letters: &[Letter]) {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut first: BTreeMap<(String, i64), &Letter> = BTreeMap::new();
    for letter in letters {
        let (event_id, version) = letter.place();
        assert_eq!(letter.message_id, format!("{event_id}/{version}"));
        match first.get(&(event_id, version)) {
            Some(original) => assert_eq!(original.change, letter.change, "the same id, and another change"),
            None => {
                let before = newest.insert(&letter.change.event_id, version).unwrap_or(0);
                assert_eq!(version, before + 1, "of {}", letter.change.event_id);
                first.insert(letter.place(), letter);
            }
        }
    }
}
