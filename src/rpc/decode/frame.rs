//! What the messages of mutations have in common: a request_id, an etag, and how to execute them.

use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Status;

use crate::{
    config::Strategy,
    domain::{
        caller::Caller,
        command::{Action, Command},
        ids::{EventId, Fingerprint, Request, RequestId},
    },
    ops::execute::ExecOptions,
    rpc::{fields::Fields, pb},
    store::LockWait,
};

/// A command and how to execute it.
pub type Decoded = (Command, ExecOptions);

/// The common part of a message, taken out of it.
pub struct Frame {
    pub request_id: String,
    pub etag: String,
    pub fingerprint: Fingerprint,
    pub options: Option<ExecOptions>,
}

/// Takes the frame out of a message; `options` come first, since the fingerprint does not cover them.
macro_rules! frame {
    ($message:ident, $rpc:literal, $options:expr) => {{
        let (options, request_id) = ($options, std::mem::take(&mut $message.request_id));
        $crate::rpc::decode::frame::Frame {
            request_id,
            fingerprint: $crate::rpc::decode::frame::fingerprint($rpc, &$message),
            etag: std::mem::take(&mut $message.etag),
            options,
        }
    }};
}

/// Takes out how to execute a mutation of a reservation or a waitlist entry.
macro_rules! exec_options {
    ($message:ident, $fields:ident, $strategy:expr, $deadline:expr) => {{
        let (options, validate_only) = ($message.options.take(), std::mem::take(&mut $message.validate_only));
        $crate::rpc::decode::frame::how_of(
            &mut $fields,
            options.unwrap_or_default(),
            validate_only,
            $strategy,
            $deadline,
        )
    }};
}

pub(super) use {exec_options, frame};

impl Frame {
    /// The command, if no field was bad.
    pub fn decoded(
        self,
        mut fields: Fields,
        event_id: Option<EventId>,
        action: Option<Action>,
    ) -> Result<Decoded, Status> {
        let etag = fields.etag("etag", self.etag);
        let request_id = fields.request_id("request_id", &self.request_id);
        let request = request_id.map(|id| request(id, self.fingerprint));
        let decoded = || {
            let caller = Caller::default();
            let (event_id, action, etag, request) = (event_id?, action?, etag?, request?);
            Some((Command { event_id, action, etag, request, caller }, self.options?))
        };
        let decoded = decoded();
        fields.finish(decoded)
    }
}

/// The digest of what a request_id stands for: the RPC and its message, without the request_id and the options. The
/// message is encoded again from its known fields, so the digest does not depend on the client's encoder.
pub fn fingerprint(rpc: &str, message: &impl Message) -> Fingerprint {
    let digest = Sha256::new().chain_update(rpc).chain_update([0]).chain_update(message.encode_to_vec()).finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Fingerprint(first)
}

pub fn request(id: Option<RequestId>, fingerprint: Fingerprint) -> Option<Request> {
    id.map(|id| Request { id, fingerprint })
}

/// How to execute a mutation; None if the options are bad.
pub fn how_of(
    fields: &mut Fields,
    options: pb::ExecutionOptions,
    validate_only: bool,
    default: Strategy,
    deadline: Instant,
) -> Option<ExecOptions> {
    let strategy = match options.strategy {
        0 => Some(default),
        other => fields.known::<pb::Strategy>("options.strategy", other).map(strategy_of),
    };
    let lock_wait = match options.lock_wait {
        0 => Some(LockWait::Wait),
        other => fields.known::<pb::LockWait>("options.lock_wait", other).map(lock_wait_of),
    };
    Some(ExecOptions { strategy: strategy?, lock_wait: lock_wait?, deadline, validate_only })
}

/// How to execute a mutation of an event: always under its row lock.
pub fn with_row_lock(deadline: Instant) -> Option<ExecOptions> {
    Some(ExecOptions { strategy: Strategy::Pessimistic, lock_wait: LockWait::Wait, deadline, validate_only: false })
}

/// A strategy that is not unspecified.
pub fn strategy_of(strategy: pb::Strategy) -> Strategy {
    match strategy {
        pb::Strategy::Optimistic => Strategy::Optimistic,
        pb::Strategy::Coalesced => Strategy::Coalesced,
        pb::Strategy::Pessimistic | pb::Strategy::Unspecified => Strategy::Pessimistic,
    }
}

/// A lock wait; unspecified is to wait.
pub fn lock_wait_of(wait: pb::LockWait) -> LockWait {
    match wait {
        pb::LockWait::Nowait => LockWait::NoWait,
        pb::LockWait::Wait | pb::LockWait::Unspecified => LockWait::Wait,
    }
}
