//! Every section of the settings. `defaults.toml` says what each setting means.

#![allow(missing_docs, reason = "documented in defaults.toml, once")]

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    broker::Broker,
    secret::SecretUrl,
    security::{Auth, Limits, Security, Tls},
    sessions::Sessions,
    web::Web,
};
use crate::domain::booking_close::BookingClose;

/// The documented defaults, as they are in the repository.
pub const DEFAULTS: &str = include_str!("../defaults.toml");
/// Those that differ where other machines can reach `server.listen`.
pub const NETWORK_DEFAULTS: &str = include_str!("../network_defaults.toml");

/// All settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub security: Security,
    pub tls: Tls,
    pub auth: Auth,
    pub sessions: Sessions,
    pub limits: Limits,
    pub web: Web,
    pub database: Database,
    pub embedded: Embedded,
    pub strategy: StrategyDefaults,
    pub execution: Execution,
    pub expiry: Expiry,
    pub events: Events,
    pub waitlist: Waitlist,
    pub retention: Retention,
    pub watch: Watch,
    pub broker: Broker,
    pub diagnostics: Diagnostics,
    pub telemetry: Telemetry,
}

impl Config {
    /// The settings in force, as a file that can be loaded again, except that secrets are redacted.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
    }

    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        self.tls.is_configured()
    }

    /// Whether callers must authenticate.
    pub fn has_authentication(&self) -> bool {
        !self.auth.jwks.is_empty() || !self.tls.client_ca.is_empty() || self.sessions.is_configured()
    }
}

/// Whether only this machine reaches an address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// `[server]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    #[serde(deserialize_with = "address_or_none", serialize_with = "or_empty")]
    pub metrics_listen: Option<SocketAddr>,
    pub worker_threads: usize,
    pub max_in_flight: usize,
    pub max_large_responses: usize,
    pub max_costly_calls: usize,
    #[serde(with = "humantime_serde")]
    pub default_deadline: Duration,
    #[serde(with = "humantime_serde")]
    pub max_deadline: Duration,
    pub max_streams_per_connection: u32,
    pub max_request_bytes: usize,
    pub reflection: bool,
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub message_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    #[serde(with = "humantime_serde")]
    pub drain_limit: Duration,
}

/// `[database]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: SecretUrl,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    pub max_connections: u32,
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_in_transaction_session_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    pub migrate: bool,
}

/// `[embedded]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    pub data_dir: String,
    pub bin_dir: String,
    pub os_user: String,
}

/// `[strategy]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrategyDefaults {
    pub reserve: Strategy,
    pub confirm: Strategy,
    pub cancel: Strategy,
    pub extend: Strategy,
    pub amend: Strategy,
    pub waitlist: Strategy,
    pub events: Strategy,
}

/// How a mutation gets exclusive access to its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Strategy {
    /// By the event's row lock.
    Pessimistic,
    /// By the event's version.
    Optimistic,
    /// In a queue, many commands in one commit.
    Coalesced,
}

impl Strategy {
    /// The name that the settings and the metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pessimistic => "PESSIMISTIC",
            Self::Optimistic => "OPTIMISTIC",
            Self::Coalesced => "COALESCED",
        }
    }
}

/// `[execution]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    pub max_attempts: u32,
    #[serde(with = "humantime_serde")]
    pub backoff_base: Duration,
    #[serde(with = "humantime_serde")]
    pub backoff_cap: Duration,
    #[serde(with = "humantime_serde")]
    pub max_lock_wait: Duration,
    pub lanes: usize,
    pub batch_scope: BatchScope,
    pub max_batch: usize,
    pub max_queue: usize,
    pub cached_events: usize,
}

/// Which commands may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BatchScope {
    /// Commands on any events.
    Any,
    /// Commands on one event, and so on one shard.
    Event,
}

/// `[expiry]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    pub batch: u32,
}

/// `[events]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    #[serde(deserialize_with = "relative_or_never", serialize_with = "or_never")]
    pub booking_close: BookingClose,
}

/// `[waitlist]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waitlist {
    #[serde(with = "humantime_serde")]
    pub promotion_interval: Duration,
}

/// `[retention]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    #[serde(with = "humantime_serde")]
    pub changes: Duration,
    #[serde(with = "humantime_serde")]
    pub ended_reservations: Duration,
    #[serde(with = "humantime_serde")]
    pub counts: Duration,
}

/// `[watch]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    pub max_watches: usize,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub min_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    pub buffer_bytes: usize,
    pub max_bandwidth: u32,
}

/// `[diagnostics]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagnostics {
    pub concurrency_test: bool,
}

/// `[telemetry]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub log: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: SecretUrl,
    pub service_name: String,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

fn address_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

fn relative_or_never<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BookingClose, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "never" => Ok(BookingClose::Never),
        text => text
            .parse()
            .map(BookingClose::Relative)
            .map_err(|rule| serde::de::Error::custom(format!("{rule}, or never"))),
    }
}

fn or_never<S: serde::Serializer>(close: &BookingClose, serializer: S) -> Result<S::Ok, S::Error> {
    match close.relative() {
        Some(time) => serializer.collect_str(&time),
        None => serializer.serialize_str("never"),
    }
}

fn or_empty<S: serde::Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(""),
    }
}
