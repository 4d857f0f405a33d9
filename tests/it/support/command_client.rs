//! A client that sends commands over the broker, and receives the replies in its own queue.

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, Consumer,
    options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message;
use reservd::{config::PayloadFormat, rpc::pb};
use tonic::Code;
use tonic_types::{StatusExt, pb::Status as RpcStatus};

use super::{Answer, TestBroker, soon};

/// An encoded command.
#[derive(Clone, Debug)]
pub struct CommandMessage {
    pub kind: &'static str,
    pub id: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl CommandMessage {
    /// A request of the RPC `kind`.
    pub fn new(kind: &'static str, id: &str, message: &impl Message, format: PayloadFormat) -> Self {
        let body = format.write(&format!("reservd.v1.{kind}Request"), message);
        Self { kind, id: id.into(), content_type: format.content_type(), body }
    }
}

/// A received reply.
#[derive(Clone, Debug)]
pub struct Reply {
    pub correlation_id: String,
    pub kind: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Reply {
    fn read<M: Message + Default>(&self) -> M {
        let format = PayloadFormat::of_content_type(&self.content_type).expect("a known format");
        format.read(&self.kind, &self.body).unwrap_or_else(|error| panic!("{}: {error}", self.kind))
    }

    /// The reservation and the execution report.
    pub fn done(&self) -> Answer {
        // All four responses have the same two fields.
        assert!(self.kind.starts_with("reservd.v1.") && self.kind.ends_with("Response"), "{self:?}");
        let format = PayloadFormat::of_content_type(&self.content_type).expect("a known format");
        let answer: pb::ReserveResponse = match format {
            PayloadFormat::Json => format.read("reservd.v1.ReserveResponse", &self.body).expect("an answer"),
            PayloadFormat::Protobuf => self.read(),
        };
        Answer {
            reservation: answer.reservation.expect("the reservation"),
            execution: answer.execution.expect("the execution report"),
        }
    }

    /// The error as a gRPC status.
    pub fn refused(&self) -> tonic::Status {
        assert_eq!(self.kind, "google.rpc.Status", "{}", String::from_utf8_lossy(&self.body));
        let error: RpcStatus = self.read();
        let status = tonic::Status::with_details(
            Code::from_i32(error.code),
            error.message.clone(),
            error.encode_to_vec().into(),
        );
        assert!(status.get_details_error_info().is_some(), "every error has a reason");
        status
    }
}

/// A client of the broker.
pub struct CommandClient {
    commands: String,
    replies: String,
    channel: Channel,
    consumer: Consumer,
    _connection: Connection,
}

impl CommandClient {
    pub async fn open(broker: &TestBroker) -> Self {
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirmations");
        let (commands, replies) = (broker.commands.clone(), format!("replies-{}", broker.commands));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        // The queues of commands may be missing: the server declares them once it is connected.
        for queue in [&commands, &format!("{commands}.dead"), &replies] {
            let queue = queue.as_str().into();
            channel.queue_declare(queue, durable, FieldTable::default()).await.expect("a queue");
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(replies.as_str().into(), "".into(), options, FieldTable::default()).await;
        Self { commands, replies, channel, consumer: consumer.expect("a consumer"), _connection: connection }
    }

    /// Sends a command that asks for a reply.
    pub async fn send(&self, command: &CommandMessage) {
        let properties = BasicProperties::default()
            .with_type(format!("reservd.v1.{}Request", command.kind).into())
            .with_content_type(command.content_type.into())
            .with_message_id(command.id.as_str().into())
            .with_correlation_id(format!("about {}", command.id).into())
            .with_reply_to(self.replies.as_str().into())
            .with_delivery_mode(2);
        self.send_raw(properties, &command.body).await;
    }

    /// Sends a message unchanged.
    pub async fn send_raw(&self, properties: BasicProperties, body: &[u8]) {
        let queue = self.commands.as_str().into();
        let sent = self.channel.basic_publish("".into(), queue, BasicPublishOptions::default(), body, properties).await;
        assert!(sent.expect("it is sent").await.expect("it is confirmed").is_ack());
    }

    /// The next reply.
    pub async fn reply(&mut self) -> Reply {
        let delivery = soon("a reply arrives", self.consumer.next()).await.expect("more").expect("the broker is up");
        let text =
            |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        Reply {
            correlation_id: text(delivery.properties.correlation_id()),
            kind: text(delivery.properties.kind()),
            content_type: text(delivery.properties.content_type()),
            body: delivery.data,
        }
    }

    /// Sends a command and waits for its reply.
    pub async fn call(&mut self, command: &CommandMessage) -> Reply {
        self.send(command).await;
        let reply = self.reply().await;
        assert_eq!(reply.correlation_id, format!("about {}", command.id));
        reply
    }

    /// The number of commands in the queue that are not delivered.
    pub async fn ready(&self) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(self.commands.as_str().into(), passive, FieldTable::default()).await;
        queue.expect("the queue exists").message_count()
    }

    /// The next dead letter, if there is one: its body and the headers with the reason.
    pub async fn dead_letter(&self) -> Option<(Vec<u8>, [String; 3])> {
        let queue = format!("{}.dead", self.commands);
        let got = self.channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await;
        let message = got.expect("the queue exists")?;
        let headers = message.properties.headers().clone().unwrap_or_default();
        let text = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        let why = ["x-reservd-reason", "x-reservd-error", "x-reservd-queue"].map(text);
        Some((message.delivery.data, why))
    }
}
