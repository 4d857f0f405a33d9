//! The way to the broker: a connection with one channel in confirm mode.

use std::{future::Future, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind, PublisherConfirm,
    message::BasicReturnMessage,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::FieldTable,
    uri::AMQPUri,
};
use tokio::time::{sleep, timeout};

use super::BrokerError;
use crate::config::Broker;

/// How long anything may take but a message: connecting, declaring, consuming.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long the broker may take to confirm. It may be short of memory or disk, and then takes nothing.
const CONFIRM_LIMIT: Duration = Duration::from_secs(15);
/// How often it is looked whether the connection still stands, while a confirmation is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Seconds between signs of life, where the URL does not say: a broker that vanished is found out within
/// two of these.
const HEARTBEAT: u16 = 10;
/// AMQP's reply code for what does not exist.
const NOT_FOUND: u16 = 404;

/// A message, whichever way it goes.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange; the empty one leads to the queue that the key names.
    pub exchange: String,
    /// What it is routed by.
    pub routing_key: String,
    /// Its properties and headers.
    pub properties: BasicProperties,
    /// Its content.
    pub body: Vec<u8>,
}

/// A connection with a channel. Closed when dropped.
pub struct Link {
    connection: Connection,
    channel: Channel,
}

impl Link {
    /// Connects. `name` is what RabbitMQ shows of it.
    pub async fn open(settings: &Broker, name: &str) -> Result<Self, BrokerError> {
        let (uri, tls) = (uri(settings)?, tls(settings)?);
        limited("connect", async {
            let properties = ConnectionProperties::default().with_connection_name(format!("reservd {name}").into());
            let runtime = lapin::runtime::default_runtime()?;
            let connection = Connection::connect_uri_with_config(uri, properties, tls, runtime).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Self { connection, channel })
        })
        .await
    }

    /// Whether the broker was there when it was last heard of.
    pub fn is_up(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Sends a message, which counts only once it is confirmed.
    pub async fn send(&self, message: Message) -> Result<PublisherConfirm, BrokerError> {
        let Message { exchange, routing_key, properties, body } = message;
        // Mandatory: what finds no queue comes back, instead of vanishing.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = self.channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties);
        Ok(timeout(CONFIRM_LIMIT, sent).await.map_err(|_| BrokerError::Silent("take a message"))??)
    }

    /// Waits until the broker has taken charge of messages, and returns those that it had no queue for, by
    /// their `message_id`.
    ///
    /// All confirmations are looked at together: the client library tells that *some* message was
    /// returned, and may tell so with the confirmation of another one.
    pub async fn confirmed(&self, sent: Vec<PublisherConfirm>) -> Result<Vec<String>, BrokerError> {
        let mut returned = Vec::new();
        let all = timeout(CONFIRM_LIMIT, async {
            for confirm in sent {
                match confirm.await? {
                    Confirmation::Ack(message) => returned.extend(message),
                    Confirmation::Nack(_) | Confirmation::NotRequested => return Err(BrokerError::Nack),
                }
            }
            Ok(())
        });
        tokio::select! {
            ended = all => ended.unwrap_or(Err(BrokerError::Silent("confirm a message")))?,
            () = self.lost() => return Err(BrokerError::Silent("keep the connection")),
        }
        let id = |message: BasicReturnMessage| message.properties.message_id().clone();
        Ok(returned.into_iter().filter_map(id).map(|id| id.to_string()).collect())
    }

    /// Waits until the connection is lost.
    async fn lost(&self) {
        while self.is_up() {
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Makes the durable topic exchange `name`, unless it is there.
    pub async fn ensure_topic(&self, name: &str) -> Result<(), BrokerError> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let made = self.channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
        limited("declare an exchange", made).await
    }

    /// Leads messages with this key from an exchange to a queue; makes the exchange, a durable topic one,
    /// unless there is one of that name, of whatever kind its owner chose.
    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
        limited("bind a queue", async {
            // Asking for what is not there ends the channel that asks.
            let asking = self.connection.create_channel().await?;
            let is_there = ExchangeDeclareOptions { passive: true, ..Default::default() };
            let topic = ExchangeKind::Topic;
            match asking.exchange_declare(exchange.into(), topic.clone(), is_there, FieldTable::default()).await {
                Ok(()) => {}
                Err(error) if is_not_found(&error) => {
                    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
                    self.channel.exchange_declare(exchange.into(), topic, options, FieldTable::default()).await?;
                }
                Err(error) => return Err(error),
            }
            let options = QueueBindOptions::default();
            self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
        })
        .await
    }

    /// Begins to consume a queue, so many messages at once.
    pub async fn consume(&self, queue: &str, tag: &str, prefetch: u16) -> Result<Consumer, BrokerError> {
        limited("consume a queue", async {
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            self.channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await
        })
        .await
    }

    /// Takes nothing more from a queue.
    pub async fn end_consuming(&self, tag: &str) -> Result<(), BrokerError> {
        limited("end consuming", self.channel.basic_cancel(tag.into(), BasicCancelOptions::default())).await
    }

    /// Makes a durable queue, unless there is one of that name, of whatever kind its operator chose.
    pub async fn ensure_queue(&self, name: &str) -> Result<(), BrokerError> {
        limited("declare a queue", async {
            // Asking for what is not there ends the channel that asks.
            let asking = self.connection.create_channel().await?;
            let is_there = QueueDeclareOptions { passive: true, ..Default::default() };
            match asking.queue_declare(name.into(), is_there, FieldTable::default()).await {
                Ok(_) => Ok(()),
                Err(error) if is_not_found(&error) => {
                    let options = QueueDeclareOptions { durable: true, ..Default::default() };
                    self.channel.queue_declare(name.into(), options, FieldTable::default()).await?;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
        .await
    }
}

async fn limited<T>(what: &'static str, work: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, BrokerError> {
    Ok(timeout(OPEN_LIMIT, work).await.map_err(|_| BrokerError::Silent(what))??)
}

fn uri(settings: &Broker) -> Result<AMQPUri, lapin::Error> {
    let parsed: Result<AMQPUri, String> = settings.url.expose().parse();
    // What the parser says may quote the URL, and with it the password.
    let mut uri = parsed.map_err(|_| invalid_url())?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

fn invalid_url() -> lapin::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, "broker.url is not valid").into()
}

fn tls(settings: &Broker) -> Result<OwnedTLSConfig, BrokerError> {
    if settings.ca_file.is_empty() {
        return Ok(OwnedTLSConfig::default());
    }
    let certificates = std::fs::read_to_string(&settings.ca_file).map_err(BrokerError::CaFile)?;
    Ok(OwnedTLSConfig { cert_chain: Some(certificates), ..Default::default() })
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(amqp) if amqp.get_id() == NOT_FOUND)
}
