//! Why the service can't start.

use std::net::SocketAddr;

use crate::{
    auth::{keys::KeysError, sessions::store::SessionStoreError},
    embedded::EmbeddedError,
    net::tls::TlsError,
    ops::OpError,
    store::schema::SchemaError,
};

/// Why the service can't start. Each is one line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address} ({setting}): {cause}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// The system's error.
        cause: std::io::Error,
    },
    /// Others could reach the address, and no setting allows it.
    #[error(
        "{listener} is {address}, which others can reach, and {risk}: {cure}, or set {setting}=true to take the risk"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        listener: &'static str,
        /// What they could do.
        risk: &'static str,
        /// What keeps them from that.
        cure: &'static str,
        /// The setting that names the risk.
        setting: &'static str,
    },
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of keys for tokens can't be used.
    #[error("auth.jwks: {from}: {cause}")]
    Keys {
        /// Where they should come from.
        from: String,
        /// Why not.
        cause: KeysError,
    },
    /// `sessions.url` can't be used.
    #[error(transparent)]
    Sessions(#[from] SessionStoreError),
    /// `database.url` is no PostgreSQL URL.
    #[error("database.url (DATABASE_URL) is not a PostgreSQL URL such as postgres://user:password@host/database")]
    Url,
    /// The embedded PostgreSQL does not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database does not take the outbox's cursor.
    #[error("cannot prepare the outbox: {0}")]
    Outbox(#[from] OpError),
    /// The schema can't be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}
