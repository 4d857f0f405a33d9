//! The gRPC surface: thin handlers that decode, call one use case and encode.
//!
//! [`decode`] makes a domain value of a message or names every bad field; [`encode`] makes messages of results;
//! [`status`] is the one place where an error becomes a `Status`. [`layers`] stand around all RPCs, and [`server`] puts
//! everything together on the connections of [`net`](crate::net).

pub mod caller_service;
pub mod cost;
pub mod decode;
pub mod diagnostics_service;
pub mod encode;
pub mod event_service;
mod execute;
pub mod feed_service;
pub mod fields;
pub mod health;
pub mod json;
pub mod layers;
pub mod methods;
pub mod page_token;
pub mod reservation_service;
pub mod server;
pub mod session_service;
pub mod status;
pub mod waitlist_service;
pub mod watch;

/// The messages, clients and servers generated from `proto/`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated; documented in proto/")]
mod generated {
    pub mod v1 {
        tonic::include_proto!("reservd.v1");
    }
    pub mod diagnostics {
        pub mod v1alpha1 {
            tonic::include_proto!("reservd.diagnostics.v1alpha1");
        }
    }
}

/// The generated API: `reservd.v1`, and in [`diagnostics`](pb::diagnostics) `reservd.diagnostics.v1alpha1`.
pub mod pb {
    pub use super::generated::{diagnostics::v1alpha1 as diagnostics, v1::*};

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
