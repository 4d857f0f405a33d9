//! A caller that speaks to the service over the broker: sends commands, and gets its answers in a queue of
//! its own.

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

/// A command, and how it is written.
#[derive(Clone, Debug)]
pub struct Order {
    pub kind: &'static str,
    pub id: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Order {
    /// The RPC `kind` of this message, written as `format`.
    pub fn new(kind: &'static str, id: &str, message: &impl Message, format: PayloadFormat) -> Self {
        let body = format.write(&format!("reservd.v1.{kind}Request"), message);
        Self { kind, id: id.into(), content_type: format.content_type(), body }
    }
}

/// What came back.
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

    /// The reservation, and how it was made.
    pub fn done(&self) -> Answer {
        // All four answers have the same two fields.
        assert!(self.kind.starts_with("reservd.v1.") && self.kind.ends_with("Response"), "{self:?}");
        let format = PayloadFormat::of_content_type(&self.content_type).expect("a known format");
        let answer: pb::ReserveResponse = match format {
            PayloadFormat::Json => format.read("reservd.v1.ReserveResponse", &self.body).expect("an answer"),
            PayloadFormat::Protobuf => self.read(),
        };
        Answer {
            reservation: answer.reservation.expect("the reservation"),
            execution: answer.execution.expect("how it was carried out"),
        }
    }

    /// The error, as gRPC would have told it.
    pub fn refused(&self) -> tonic::Status {
        assert_eq!(self.kind, "google.rpc.Status", "{}", String::from_utf8_lossy(&self.body));
        let told: RpcStatus = self.read();
        let status =
            tonic::Status::with_details(Code::from_i32(told.code), told.message.clone(), told.encode_to_vec().into());
        assert!(status.get_details_error_info().is_some(), "every error has its reason");
        status
    }
}

/// A caller.
pub struct Desk {
    commands: String,
    answers: String,
    channel: Channel,
    consumer: Consumer,
    _connection: Connection,
}

impl Desk {
    pub async fn open(broker: &TestBroker) -> Self {
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirmations");
        let (commands, answers) = (broker.commands.clone(), format!("answers-{}", broker.commands));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        // Those for commands may not be there yet: the server makes them when it has found the broker.
        for queue in [&commands, &format!("{commands}.dead"), &answers] {
            let queue = queue.as_str().into();
            channel.queue_declare(queue, durable, FieldTable::default()).await.expect("a queue");
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(answers.as_str().into(), "".into(), options, FieldTable::default()).await;
        Self { commands, answers, channel, consumer: consumer.expect("a consumer"), _connection: connection }
    }

    /// Sends a command that asks for an answer.
    pub async fn send(&self, order: &Order) {
        let properties = BasicProperties::default()
            .with_type(order.kind.into())
            .with_content_type(order.content_type.into())
            .with_message_id(order.id.as_str().into())
            .with_correlation_id(format!("about {}", order.id).into())
            .with_reply_to(self.answers.as_str().into())
            .with_delivery_mode(2);
        self.send_as_is(properties, &order.body).await;
    }

    /// Sends whatever this is.
    pub async fn send_as_is(&self, properties: BasicProperties, body: &[u8]) {
        let queue = self.commands.as_str().into();
        let sent = self.channel.basic_publish("".into(), queue, BasicPublishOptions::default(), body, properties).await;
        assert!(sent.expect("it is sent").await.expect("it is confirmed").is_ack());
    }

    /// The next answer.
    pub async fn reply(&mut self) -> Reply {
        let delivery = soon("an answer comes", self.consumer.next()).await.expect("more").expect("the broker is there");
        let text =
            |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        Reply {
            correlation_id: text(delivery.properties.correlation_id()),
            kind: text(delivery.properties.kind()),
            content_type: text(delivery.properties.content_type()),
            body: delivery.data,
        }
    }

    /// Sends a command, and waits for its answer.
    pub async fn ask(&mut self, order: &Order) -> Reply {
        self.send(order).await;
        let reply = self.reply().await;
        assert_eq!(reply.correlation_id, format!("about {}", order.id));
        reply
    }

    /// How many commands are in the queue, and delivered to nobody.
    pub async fn ready(&self) -> u32 {
        let is_there = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(self.commands.as_str().into(), is_there, FieldTable::default()).await;
        queue.expect("it is there").message_count()
    }

    /// The next dead letter, if there is one: its body, and the headers that say what is wrong with it.
    pub async fn dead_letter(&self) -> Option<(Vec<u8>, [String; 3])> {
        let queue = format!("{}.dead", self.commands);
        let got = self.channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await;
        let message = got.expect("the queue is there")?;
        let headers = message.properties.headers().clone().unwrap_or_default();
        let text = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        let why = ["x-reservd-reason", "x-reservd-error", "x-reservd-queue"].map(text);
        Some((message.delivery.data, why))
    }
}
