//! One command: decodes its message, executes it exactly as the RPC of that name, and encodes the reply.

use lapin::{BasicProperties, message::Delivery};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb::Status as RpcStatus};

use super::{cloud_event::PERSISTENT, link::Message};
use crate::{
    config::{Broker, PayloadFormat, StrategyDefaults},
    domain::caller::{Actor, Caller},
    ops::Ledger,
    rpc::{
        decode::{Decoded, reservation},
        encode,
        fields::Fields,
        pb,
        status::{self, About},
    },
};

/// The actor of commands from the queue. The broker controls who may publish to it.
const ACTOR: &str = "broker";
/// What is wrong with the `type` of a message that is no command.
const UNKNOWN_TYPE: &str = "must be reservd.v1.ReserveRequest, ConfirmRequest, CancelRequest or ExtendRequest";
/// The full name of the message for an error.
const STATUS: &str = "google.rpc.Status";

/// The result of one attempt.
pub struct CommandResult {
    /// The command's name, for the metrics.
    pub command: &'static str,
    /// `ok`, `replayed`, or the reason of a refusal.
    pub outcome: String,
    /// What to do with the message.
    pub disposition: Disposition,
}

/// What to do with the message of a command.
pub enum Disposition {
    /// It was executed or refused: reply.
    Reply {
        /// The full name of the message type.
        name: &'static str,
        /// The encoded message.
        body: Vec<u8>,
        /// Its encoding.
        format: PayloadFormat,
    },
    /// It is malformed: send it to the dead-letter queue, and reply with the reason.
    DeadLetter(Status),
    /// It met an overload, an outage or its deadline: try again.
    Retry,
}

/// The RPC of a command.
trait Command: prost::Message + Default {
    /// The command's name, for the metrics.
    const NAME: &'static str;
    /// The full name of the request: the `type` of the message.
    const REQUEST: &'static str;
    /// The full name of the response.
    const RESPONSE: &'static str;

    fn request_id(&mut self) -> &mut String;
    fn decode(self, strategies: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status>;
    /// The encoded response; `current` is that of a replay.
    fn respond(
        reservation: Option<pb::Reservation>,
        current: Option<pb::Reservation>,
        execution: pb::ExecutionReport,
        format: PayloadFormat,
    ) -> Vec<u8>;
}

macro_rules! command {
    ($name:ident, $request:ident, $response:ident, $decode:path) => {
        impl Command for pb::$request {
            const NAME: &'static str = stringify!($name);
            const REQUEST: &'static str = concat!("reservd.v1.", stringify!($request));
            const RESPONSE: &'static str = concat!("reservd.v1.", stringify!($response));

            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }

            fn decode(self, strategies: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
                $decode(self, strategies, deadline)
            }

            fn respond(
                reservation: Option<pb::Reservation>,
                current: Option<pb::Reservation>,
                execution: pb::ExecutionReport,
                format: PayloadFormat,
            ) -> Vec<u8> {
                let execution = Some(execution);
                format.write(Self::RESPONSE, &pb::$response { reservation, execution, current })
            }
        }
    };
}

command!(Reserve, ReserveRequest, ReserveResponse, reservation::reserve);
command!(Confirm, ConfirmRequest, ConfirmResponse, reservation::confirm);
command!(Cancel, CancelRequest, CancelResponse, reservation::cancel);
command!(Extend, ExtendRequest, ExtendResponse, reservation::extend);

/// Executes the command of a message within `deadline`.
pub async fn execute(
    delivery: &Delivery,
    ledger: &Ledger,
    broker: &Broker,
    strategies: StrategyDefaults,
    deadline: Instant,
) -> CommandResult {
    if let Err(refused) = check_reply_to(delivery, broker) {
        return malformed("unknown", refused);
    }
    match text(delivery.properties.kind()) {
        pb::ReserveRequest::REQUEST => execute_as::<pb::ReserveRequest>(delivery, ledger, strategies, deadline).await,
        pb::ConfirmRequest::REQUEST => execute_as::<pb::ConfirmRequest>(delivery, ledger, strategies, deadline).await,
        pb::CancelRequest::REQUEST => execute_as::<pb::CancelRequest>(delivery, ledger, strategies, deadline).await,
        pb::ExtendRequest::REQUEST => execute_as::<pb::ExtendRequest>(delivery, ledger, strategies, deadline).await,
        _ => malformed("unknown", status::unreadable("type", UNKNOWN_TYPE)),
    }
}

async fn execute_as<C: Command>(
    delivery: &Delivery,
    ledger: &Ledger,
    strategies: StrategyDefaults,
    deadline: Instant,
) -> CommandResult {
    let (format, order) =
        match read::<C>(delivery).and_then(|(format, message)| Ok((format, message.decode(strategies, deadline)?))) {
            Ok(read) => read,
            Err(refused) => return malformed(C::NAME, refused),
        };
    let (command, how) = order;
    let command = command.by(caller());
    let subject = About::of(&command);
    let result =
        |outcome: &str, disposition| CommandResult { command: C::NAME, outcome: outcome.to_owned(), disposition };
    let executed = match ledger.execute(command, how).await {
        Ok(outcome) => ledger.current_reservation(&outcome, deadline).await.map(|current| (outcome, current)),
        Err(error) => Err(error),
    };
    match executed {
        Ok((outcome, current)) => {
            let reservation = encode::changed_reservation(&outcome.change);
            let current = current.as_ref().map(encode::reservation);
            let body = C::respond(reservation, current, encode::execution(&outcome, ledger.now()), format);
            let how = if outcome.replayed { "replayed" } else { "ok" };
            result(how, Disposition::Reply { name: C::RESPONSE, body, format })
        }
        Err(error) => {
            let refused = status::of(&error, &subject);
            if is_transient(refused.code()) {
                return result(error.reason(), Disposition::Retry);
            }
            result(error.reason(), Disposition::Reply { name: STATUS, body: encode_status(&refused, format), format })
        }
    }
}

/// Commands from the queue may act for any user.
fn caller() -> Caller {
    Caller { actor: Actor::parse(ACTOR), ..Caller::default() }
}

/// Whether the same command may succeed later, or tell what became of it: with its request_id it is safe to repeat.
fn is_transient(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::Unknown | Code::DeadlineExceeded)
}

fn malformed(command: &'static str, refused: Status) -> CommandResult {
    CommandResult { command, outcome: reason(&refused), disposition: Disposition::DeadLetter(refused) }
}

/// The request of a delivery, with the message_id as its request_id: without one, a second delivery would have a
/// second effect.
fn read<C: Command>(delivery: &Delivery) -> Result<(PayloadFormat, C), Status> {
    let mut fields = Fields::default();
    let format = PayloadFormat::of_content_type(text(delivery.properties.content_type()));
    if format.is_none() {
        fields.reject("content_type", "must be application/json or application/protobuf");
    }
    let message_id = text(delivery.properties.message_id());
    if message_id.is_empty() {
        fields.reject("message_id", "must be set: it is the request_id");
    } else {
        fields.request_id("message_id", message_id);
    }
    let format = fields.finish(format)?;
    let mut message: C = format.read(C::REQUEST, &delivery.data).map_err(|why| status::unreadable("body", &why))?;
    let request_id = message.request_id();
    if request_id.is_empty() {
        message_id.clone_into(request_id);
    } else if request_id != message_id {
        let mut fields = Fields::default();
        fields.reject("request_id", "must be empty, or the message_id");
        return fields.finish(None);
    }
    Ok((format, message))
}

/// Refuses a command whose sender would have reservd write to a queue that is not for replies.
fn check_reply_to(delivery: &Delivery, broker: &Broker) -> Result<(), Status> {
    let (mut fields, queue) = (Fields::default(), text(delivery.properties.reply_to()));
    if !queue.is_empty() && !broker.allows_reply_to(queue) {
        fields.reject("reply_to", "must begin with broker.reply_prefix, and not be a queue of reservd's own");
    }
    fields.finish(Some(()))
}

/// The reply, if the sender asks for one and may.
pub fn reply(delivery: &Delivery, result: &CommandResult, broker: &Broker) -> Option<Message> {
    let to = delivery.properties.reply_to().as_ref().filter(|to| broker.allows_reply_to(to.as_str()))?;
    let (name, body, format) = match &result.disposition {
        Disposition::Reply { name, body, format } => (*name, body.clone(), *format),
        Disposition::DeadLetter(refused) => {
            let format = PayloadFormat::of_content_type(text(delivery.properties.content_type()));
            let format = format.unwrap_or(PayloadFormat::Json);
            (STATUS, encode_status(refused, format), format)
        }
        Disposition::Retry => return None,
    };
    let request = delivery.properties.correlation_id().as_ref().or(delivery.properties.message_id().as_ref());
    let mut properties = BasicProperties::default()
        .with_content_type(format.content_type().into())
        .with_delivery_mode(PERSISTENT)
        .with_type(name.into());
    if let Some(id) = request {
        properties = properties.with_correlation_id(id.clone());
    }
    Some(Message { exchange: String::new(), routing_key: to.to_string(), properties, body })
}

fn text(property: &Option<lapin::types::ShortString>) -> &str {
    property.as_ref().map_or("", |text| text.as_str())
}

/// The reason of a refusal.
pub fn reason(refused: &Status) -> String {
    refused.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The `google.rpc.Status` that gRPC carries in its trailers.
fn encode_status(refused: &Status, format: PayloadFormat) -> Vec<u8> {
    let rich = RpcStatus::decode(refused.details()).unwrap_or_else(|_| RpcStatus {
        code: refused.code().into(),
        message: refused.message().to_owned(),
        details: Vec::new(),
    });
    format.write(STATUS, &rich)
}
