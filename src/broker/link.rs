//! The connection to the broker, with one channel in confirm mode.

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

use super::error::BrokerError;
use crate::config::Broker;

/// The time for each request except messages: connecting, declaring, consuming.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a confirmation. A broker that is short of memory or disk accepts no messages.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the connection is checked during the wait for a confirmation.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Seconds between heartbeats, unless the URL sets them. The loss of a broker is noticed within two heartbeats.
const HEARTBEAT: u16 = 10;
/// AMQP's reply code for a missing exchange or queue.
const NOT_FOUND: u16 = 404;

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange; the default exchange ("") routes to the queue named by the key.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Its properties and headers.
    pub properties: BasicProperties,
    /// Its content.
    pub body: Vec<u8>,
}

/// A connection with a channel, closed when dropped.
pub struct Link {
    connection: Connection,
    channel: Channel,
}

impl Link {
    /// Connects. RabbitMQ shows `name` for the connection.
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

    /// Whether the connection is up, as far as is known.
    pub fn is_up(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Sends a message. The broker has it only once it is confirmed.
    pub async fn send(&self, message: Message) -> Result<PublisherConfirm, BrokerError> {
        let Message { exchange, routing_key, properties, body } = message;
        // Mandatory: a message that matches no queue is returned instead of dropped.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = self.channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties);
        Ok(timeout(CONFIRM_TIMEOUT, sent).await.map_err(|_| BrokerError::Timeout("accept a message"))??)
    }

    /// Waits until the broker has confirmed the messages. Returns the `message_id`s of those that matched no queue.
    ///
    /// All confirmations are evaluated together, since the client library may report a returned message with the
    /// confirmation of another one.
    pub async fn confirmed(&self, sent: Vec<PublisherConfirm>) -> Result<Vec<String>, BrokerError> {
        let mut returned = Vec::new();
        let all = timeout(CONFIRM_TIMEOUT, async {
            for confirm in sent {
                match confirm.await? {
                    Confirmation::Ack(message) => returned.extend(message),
                    Confirmation::Nack(_) | Confirmation::NotRequested => return Err(BrokerError::Nack),
                }
            }
            Ok(())
        });
        tokio::select! {
            ended = all => ended.unwrap_or(Err(BrokerError::Timeout("confirm a message")))?,
            () = self.lost() => return Err(BrokerError::Timeout("keep the connection")),
        }
        let id = |message: BasicReturnMessage| message.properties.message_id().clone();
        Ok(returned.into_iter().filter_map(id).map(|id| id.to_string()).collect())
    }

    /// Waits until the connection is lost.
    async fn lost(&self) {
        while self.is_up() {
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Declares the durable topic exchange `name`, unless it exists.
    pub async fn ensure_topic(&self, name: &str) -> Result<(), BrokerError> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = self.channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
        limited("declare an exchange", declared).await
    }

    /// Binds a queue to an exchange with this key. Declares a durable topic exchange unless there is one with that
    /// name, whose owner may have chosen another kind.
    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
        limited("bind a queue", async {
            // A passive declaration of a missing name closes its channel.
            let probe = self.connection.create_channel().await?;
            let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
            let topic = ExchangeKind::Topic;
            match probe.exchange_declare(exchange.into(), topic.clone(), passive, FieldTable::default()).await {
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

    /// Starts to consume a queue, with at most `prefetch` unsettled messages.
    pub async fn consume(&self, queue: &str, tag: &str, prefetch: u16) -> Result<Consumer, BrokerError> {
        limited("consume a queue", async {
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            self.channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await
        })
        .await
    }

    /// Stops consuming.
    pub async fn cancel(&self, tag: &str) -> Result<(), BrokerError> {
        limited("cancel a consumer", self.channel.basic_cancel(tag.into(), BasicCancelOptions::default())).await
    }

    /// Declares a durable queue, unless there is one with that name, whose operator may have chosen another kind.
    pub async fn ensure_queue(&self, name: &str) -> Result<(), BrokerError> {
        limited("declare a queue", async {
            // A passive declaration of a missing name closes its channel.
            let probe = self.connection.create_channel().await?;
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            match probe.queue_declare(name.into(), passive, FieldTable::default()).await {
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
    Ok(timeout(REQUEST_TIMEOUT, work).await.map_err(|_| BrokerError::Timeout(what))??)
}

fn uri(settings: &Broker) -> Result<AMQPUri, lapin::Error> {
    let parsed: Result<AMQPUri, String> = settings.url.expose().parse();
    // The error of the parser may quote the URL with its password.
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
