//! The gRPC surface: thin handlers that decode, run one use case and encode.
//!
//! [`decode`] turns a message into a domain value or names every bad field; [`encode`] turns results
//! into messages; [`status`] is the one place where an error becomes a `Status`. [`layers`] stand
//! around all RPCs, and [`server`] puts everything together, behind the door that [`listen`] and [`tls`]
//! are; [`seats`], [`by_turns`] and [`large_answers`] see to it that no more comes through than can be served.

pub mod by_turns;
pub mod decode;
pub mod diagnostics_service;
pub mod encode;
pub mod event_service;
pub mod fields;
pub mod handshake;
pub mod large_answers;
pub mod layers;
pub mod listen;
pub mod page_token;
pub mod patience;
pub mod reservation_service;
pub mod seats;
pub mod server;
pub mod session_service;
pub mod status;
pub mod tls;
pub mod waitlist_service;
pub mod watch;

/// The messages, clients and servers generated from `proto/`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated; documented in proto/")]
pub mod pb {
    tonic::include_proto!("reservd.v1");

    impl std::fmt::Debug for CreateSessionResponse {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let Self { token: _, session, revoked_session_ids } = self;
            let mut printed = f.debug_struct("CreateSessionResponse");
            printed.field("session", session).field("revoked_session_ids", revoked_session_ids).finish_non_exhaustive()
        }
    }

    /// The descriptors of all of it, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reservd_descriptor.bin"));
}
