//! One command: its message, decoded and carried out exactly as the RPC of that name, and what is said of
//! it.

use lapin::{BasicProperties, message::Delivery};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb::Status as RpcStatus};

use super::{cloud_event::PERSISTENT, link::Message};
use crate::{
    config::{PayloadFormat, StrategyDefaults},
    domain::caller::{Actor, Caller},
    ops::Ledger,
    rpc::{
        decode::{Decoded, reservation as orders},
        encode,
        fields::Fields,
        pb, status,
    },
};

/// Whom the history names for what was asked for in the queue: who may write to it is the broker's to say.
const ACTOR: &str = "broker";
/// The full name of the message that tells an error.
const STATUS: &str = "google.rpc.Status";

/// What became of a command, for now.
pub struct Ended {
    /// Its name, for the metrics.
    pub command: &'static str,
    /// `ok`, `replayed`, or the reason of a no.
    pub outcome: String,
    /// What is to be done about it.
    pub ending: Ending,
}

/// What is to be done about a command.
pub enum Ending {
    /// It was carried out, or refused: say so.
    Answer {
        /// The full name of the message.
        name: &'static str,
        /// It, written.
        body: Vec<u8>,
        /// How it is written.
        format: PayloadFormat,
    },
    /// It can't be read: set it aside, and say why.
    Unreadable(Status),
    /// An overload or an outage, or it took too long: try again.
    NotNow,
}

/// A command: how its message is read, turned into an order, and answered.
trait Command: prost::Message + Default {
    /// What `type` says.
    const NAME: &'static str;
    /// The full name of the message.
    const REQUEST: &'static str;
    /// The full name of the answer.
    const RESPONSE: &'static str;

    fn request_id(&mut self) -> &mut String;
    fn order(self, strategies: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status>;
    fn answer(reservation: Option<pb::Reservation>, execution: pb::ExecutionReport, format: PayloadFormat) -> Vec<u8>;
}

macro_rules! command {
    ($name:ident, $request:ident, $response:ident, $order:path) => {
        impl Command for pb::$request {
            const NAME: &'static str = stringify!($name);
            const REQUEST: &'static str = concat!("reservd.v1.", stringify!($request));
            const RESPONSE: &'static str = concat!("reservd.v1.", stringify!($response));

            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }

            fn order(self, strategies: StrategyDefaults, deadline: Instant) -> Result<Decoded, Status> {
                $order(self, strategies, deadline)
            }

            fn answer(
                reservation: Option<pb::Reservation>,
                execution: pb::ExecutionReport,
                format: PayloadFormat,
            ) -> Vec<u8> {
                format.write(Self::RESPONSE, &pb::$response { reservation, execution: Some(execution) })
            }
        }
    };
}

command!(Reserve, ReserveRequest, ReserveResponse, orders::reserve);
command!(Confirm, ConfirmRequest, ConfirmResponse, orders::confirm);
command!(Cancel, CancelRequest, CancelResponse, orders::cancel);
command!(Extend, ExtendRequest, ExtendResponse, orders::extend);

/// Carries out what a message asks for, no longer than until `deadline`.
pub async fn carry_out(delivery: &Delivery, ledger: &Ledger, strategies: StrategyDefaults, deadline: Instant) -> Ended {
    match text(delivery.properties.kind()) {
        pb::ReserveRequest::NAME => carry::<pb::ReserveRequest>(delivery, ledger, strategies, deadline).await,
        pb::ConfirmRequest::NAME => carry::<pb::ConfirmRequest>(delivery, ledger, strategies, deadline).await,
        pb::CancelRequest::NAME => carry::<pb::CancelRequest>(delivery, ledger, strategies, deadline).await,
        pb::ExtendRequest::NAME => carry::<pb::ExtendRequest>(delivery, ledger, strategies, deadline).await,
        _ => unreadable("unknown", status::unreadable("type", "must be Reserve, Confirm, Cancel or Extend")),
    }
}

async fn carry<C: Command>(
    delivery: &Delivery,
    ledger: &Ledger,
    strategies: StrategyDefaults,
    deadline: Instant,
) -> Ended {
    let (format, order) =
        match read::<C>(delivery).and_then(|(format, message)| Ok((format, message.order(strategies, deadline)?))) {
            Ok(read) => read,
            Err(refused) => return unreadable(C::NAME, refused),
        };
    let (command, how) = order;
    let command = command.by(caller());
    let event_id = command.event_id.clone();
    let ended = |outcome: &str, ending| Ended { command: C::NAME, outcome: outcome.to_owned(), ending };
    match ledger.execute(command, how).await {
        Ok(outcome) => {
            let reservation = encode::changed_reservation(&outcome.change);
            let body = C::answer(reservation, encode::execution(&outcome), format);
            let how = if outcome.replayed { "replayed" } else { "ok" };
            ended(how, Ending::Answer { name: C::RESPONSE, body, format })
        }
        Err(error) => {
            let refused = status::of(&error, Some(&event_id));
            if is_passing(refused.code()) {
                return ended(error.reason(), Ending::NotNow);
            }
            ended(error.reason(), Ending::Answer { name: STATUS, body: written(&refused, format), format })
        }
    }
}

/// A service: it acts for any user.
fn caller() -> Caller {
    Caller { actor: Actor::parse(ACTOR), ..Caller::default() }
}

/// Whether the same command may well succeed later, as it stands.
fn is_passing(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded)
}

fn unreadable(command: &'static str, refused: Status) -> Ended {
    Ended { command, outcome: reason(&refused), ending: Ending::Unreadable(refused) }
}

/// The message of a delivery, with its id as request_id: without one, a second delivery would have a
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

/// What goes to whoever asked for an answer.
pub fn reply(delivery: &Delivery, ended: &Ended) -> Option<Message> {
    let to = delivery.properties.reply_to().as_ref()?;
    let (name, body, format) = match &ended.ending {
        Ending::Answer { name, body, format } => (*name, body.clone(), *format),
        Ending::Unreadable(refused) => {
            let format = PayloadFormat::of_content_type(text(delivery.properties.content_type()));
            let format = format.unwrap_or(PayloadFormat::Json);
            (STATUS, written(refused, format), format)
        }
        Ending::NotNow => return None,
    };
    let asked = delivery.properties.correlation_id().as_ref().or(delivery.properties.message_id().as_ref());
    let mut properties = BasicProperties::default()
        .with_content_type(format.content_type().into())
        .with_delivery_mode(PERSISTENT)
        .with_type(name.into());
    if let Some(asked) = asked {
        properties = properties.with_correlation_id(asked.clone());
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

/// The `google.rpc.Status` that gRPC would have carried in its trailers.
fn written(refused: &Status, format: PayloadFormat) -> Vec<u8> {
    let rich = RpcStatus::decode(refused.details()).unwrap_or_else(|_| RpcStatus {
        code: refused.code().into(),
        message: refused.message().to_owned(),
        details: Vec::new(),
    });
    format.write(STATUS, &rich)
}
