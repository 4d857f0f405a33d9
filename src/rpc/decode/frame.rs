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
    pub expected_event_version: Option<i64>,
    pub fingerprint: Fingerprint,
    pub options: Option<ExecOptions>,
}

/// Takes the frame out of a message that selects what it changes by `etag` or by `expected_event_version`. The options
/// come first, since the fingerprint does not cover them.
macro_rules! frame {
    ($message:ident, $fields:ident, $rpc:literal, $strategy:expr, $deadline:expr, etag) => {
        $crate::rpc::decode::frame::frame!(@ $message, $fields, $rpc, $strategy, $deadline,
            etag: std::mem::take(&mut $message.etag), expected_event_version: None)
    };
    ($message:ident, $fields:ident, $rpc:literal, $strategy:expr, $deadline:expr, expected_event_version) => {
        $crate::rpc::decode::frame::frame!(@ $message, $fields, $rpc, $strategy, $deadline,
            etag: String::new(), expected_event_version: $message.expected_event_version)
    };
    (@ $message:ident, $fields:ident, $rpc:literal, $strategy:expr, $deadline:expr,
     etag: $etag:expr, expected_event_version: $version:expr) => {{
        let (options, validate_only) = ($message.options.take(), std::mem::take(&mut $message.validate_only));
        let options = $crate::rpc::decode::frame::exec_options(
            &mut $fields,
            options.unwrap_or_default(),
            validate_only,
            $strategy,
            $deadline,
        );
        let request_id = std::mem::take(&mut $message.request_id);
        let fingerprint = $crate::rpc::decode::frame::fingerprint($rpc, &$message);
        let (etag, expected_event_version) = ($etag, $version);
        $crate::rpc::decode::frame::Frame { request_id, etag, expected_event_version, fingerprint, options }
    }};
}

pub(super) use frame;

impl Frame {
    /// The command, if no field was bad.
    pub fn decoded(
        self,
        mut fields: Fields,
        event_id: Option<EventId>,
        action: Option<Action>,
    ) -> Result<Decoded, Status> {
        let etag = fields.etag("etag", self.etag);
        let expected_event_version = self.expected_event_version;
        if expected_event_version.is_some_and(|version| version < 1) {
            fields.reject("expected_event_version", "must be 1 or more");
        }
        let request_id = fields.request_id("request_id", &self.request_id);
        let request = request_id.map(|id| request(id, self.fingerprint));
        let decoded = || {
            let caller = Caller::default();
            let (event_id, action, etag, request) = (event_id?, action?, etag?, request?);
            Some((Command { event_id, action, etag, expected_event_version, request, caller }, self.options?))
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
pub fn exec_options(
    fields: &mut Fields,
    options: pb::ExecutionOptions,
    validate_only: bool,
    default: Strategy,
    deadline: Instant,
) -> Option<ExecOptions> {
    let strategy = match options.strategy {
        0 => Some(default),
        other => fields.known::<pb::ExecutionStrategy>("options.strategy", other).map(strategy_of),
    };
    let lock_wait = match options.lock_wait {
        0 => Some(LockWait::Wait),
        other => fields.known::<pb::LockWait>("options.lock_wait", other).map(lock_wait_of),
    };
    Some(ExecOptions { strategy: strategy?, lock_wait: lock_wait?, deadline, validate_only })
}

/// A strategy that is not unspecified.
pub fn strategy_of(strategy: pb::ExecutionStrategy) -> Strategy {
    match strategy {
        pb::ExecutionStrategy::Optimistic => Strategy::Optimistic,
        pb::ExecutionStrategy::Coalesced => Strategy::Coalesced,
        pb::ExecutionStrategy::Pessimistic | pb::ExecutionStrategy::Unspecified => Strategy::Pessimistic,
    }
}

/// A lock wait; unspecified is to wait.
pub fn lock_wait_of(wait: pb::LockWait) -> LockWait {
    match wait {
        pb::LockWait::Nowait => LockWait::NoWait,
        pb::LockWait::Wait | pb::LockWait::Unspecified => LockWait::Wait,
    }
}
