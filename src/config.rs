//! The settings: one documented file of defaults, overlaid by a file, the environment and flags.
//! Secrets print redacted.

mod broker;
mod load;
mod security;
mod sessions;

use std::{fmt, net::SocketAddr, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

pub use broker::{Broker, PayloadFormat};
pub use security::{Algorithm, Auth, ClientCertificates, Limits, Location, Role, Security, Tls};
pub use sessions::{SessionKind, Sessions};

/// The documented defaults, as they are in the repository.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Everything that can be set. `defaults.toml` says what each setting means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Config {
    pub server: Server,
    pub security: Security,
    pub tls: Tls,
    pub auth: Auth,
    pub sessions: Sessions,
    pub limits: Limits,
    pub database: Database,
    pub embedded: Embedded,
    pub strategy: StrategyDefaults,
    pub execution: Execution,
    pub holds: Holds,
    pub waitlist: Waitlist,
    pub retention: Retention,
    pub watch: Watch,
    pub broker: Broker,
    pub diagnostics: Diagnostics,
    pub telemetry: Telemetry,
}

/// `[server]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Server {
    pub listen: SocketAddr,
    #[serde(deserialize_with = "address_or_none", serialize_with = "or_empty")]
    pub metrics_listen: Option<SocketAddr>,
    pub worker_threads: usize,
    pub max_in_flight: usize,
    pub max_large_answers: usize,
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
    pub answer_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub drain_limit: Duration,
}

/// `[database]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Database {
    pub url: SecretUrl,
    pub max_connections: u32,
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    pub migrate: bool,
}

/// `[embedded]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Embedded {
    pub data_dir: String,
    pub bin_dir: String,
    pub os_user: String,
}

/// `[strategy]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct StrategyDefaults {
    pub reserve: Strategy,
    pub confirm: Strategy,
    pub cancel: Strategy,
    pub extend: Strategy,
    pub amend: Strategy,
    pub join_waitlist: Strategy,
    pub leave_waitlist: Strategy,
}

/// How a mutation gets its exclusivity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Strategy {
    /// Under the event's row lock.
    Pessimistic,
    /// By the event's version.
    Optimistic,
    /// Under the row lock, many commands in one commit.
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
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
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
    pub remembered_events: usize,
}

/// What one batch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BatchScope {
    /// Commands on any events.
    Any,
    /// Commands on one event, and so on one shard.
    Event,
}

/// `[holds]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Holds {
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    pub sweep_batch: u32,
}

/// `[waitlist]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Waitlist {
    #[serde(with = "humantime_serde")]
    pub serve_interval: Duration,
}

/// `[retention]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Retention {
    #[serde(with = "humantime_serde")]
    pub changes: Duration,
    #[serde(with = "humantime_serde")]
    pub ended_reservations: Duration,
}

/// `[watch]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
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
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Diagnostics {
    pub concurrency_test: bool,
}

/// `[telemetry]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Telemetry {
    pub log: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: String,
    pub service_name: String,
}

/// How log lines look.
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

/// A URL that may hold a password, and prints without it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", redact(&self.0))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Replaces whatever may be a password: what stands between `://user:` and the last `@` before the
/// path, and every query parameter, since `password`, `sslpassword` and `passfile` may be among them.
fn redact(url: &str) -> String {
    let (front, query) = url.split_once('?').map_or((url, ""), |(front, query)| (front, query));
    let front = match front.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
                None => front.to_owned(),
            },
            None => front.to_owned(),
        },
        None if front.is_empty() => String::new(),
        None => "***".to_owned(),
    };
    if query.is_empty() { front } else { format!("{front}?***") }
}

/// What is wrong with the settings, a line each.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// What a command line sets, as `section.key` and value.
pub type Flags = Vec<(String, String)>;

impl Config {
    /// The settings in force, as a file that could be loaded again but for its secrets.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut wrong = Vec::new();
        let mut span = |key: &str, value: Duration, range: RangeInclusive<Duration>| {
            if !range.contains(&value) {
                let (min, max) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
                wrong.push(format!("{key} must be from {min} to {max}"));
            }
        };
        let (ms, hour, day) = (Duration::from_millis(1), Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        span("server.default_deadline", self.server.default_deadline, ms..=hour);
        span("server.max_deadline", self.server.max_deadline, self.server.default_deadline..=hour);
        span("server.handshake_timeout", self.server.handshake_timeout, ms..=hour);
        span("server.message_timeout", self.server.message_timeout, ms..=hour);
        span("server.answer_timeout", self.server.answer_timeout, ms..=hour);
        span("server.keepalive_interval", self.server.keepalive_interval, 1000 * ms..=hour);
        span("server.keepalive_timeout", self.server.keepalive_timeout, 100 * ms..=hour);
        span("server.drain_limit", self.server.drain_limit, ms..=hour);
        span("database.acquire_timeout", self.database.acquire_timeout, ms..=hour);
        span("database.statement_timeout", self.database.statement_timeout, 100 * ms..=hour);
        span("database.max_lifetime", self.database.max_lifetime, 1000 * ms..=day);
        span("execution.backoff_base", self.execution.backoff_base, Duration::ZERO..=hour);
        span("execution.backoff_cap", self.execution.backoff_cap, self.execution.backoff_base..=hour);
        span("execution.max_lock_wait", self.execution.max_lock_wait, ms..=hour);
        span("holds.sweep_interval", self.holds.sweep_interval, ms..=hour);
        span("waitlist.serve_interval", self.waitlist.serve_interval, ms..=hour);
        span("watch.poll_interval", self.watch.poll_interval, ms..=hour);
        span("watch.min_interval", self.watch.min_interval, Duration::ZERO..=hour);
        span("watch.heartbeat_interval", self.watch.heartbeat_interval, ms..=hour);
        span("retention.changes", self.retention.changes, day..=3650 * day);
        span("retention.ended_reservations", self.retention.ended_reservations, day..=36500 * day);
        span("broker.relay_interval", self.broker.relay_interval, ms..=hour);
        span("broker.retry_pause", self.broker.retry_pause, ms..=hour);

        let mut number = |key: &str, value: usize, range: RangeInclusive<usize>| {
            if !range.contains(&value) {
                wrong.push(format!("{key} must be from {} to {}", range.start(), range.end()));
            }
        };
        number("server.worker_threads", self.server.worker_threads, 0..=1024);
        number("server.max_in_flight", self.server.max_in_flight, 1..=1_000_000);
        number("server.max_large_answers", self.server.max_large_answers, 1..=10_000);
        number("server.max_streams_per_connection", self.server.max_streams_per_connection as usize, 1..=100_000);
        number("server.max_request_bytes", self.server.max_request_bytes, 1024..=64 * 1024 * 1024);
        number("database.max_connections", self.database.max_connections as usize, 2..=1000);
        number("execution.max_attempts", self.execution.max_attempts as usize, 1..=100);
        number("execution.lanes", self.execution.lanes, 1..=64);
        number("execution.max_batch", self.execution.max_batch, 1..=5000);
        number("execution.max_queue", self.execution.max_queue, 1..=1_000_000);
        number("execution.remembered_events", self.execution.remembered_events, 0..=10_000_000);
        number("holds.sweep_batch", self.holds.sweep_batch as usize, 1..=10_000);
        number("watch.max_watches", self.watch.max_watches, 1..=1_000_000);
        number("watch.buffer_bytes", self.watch.buffer_bytes, 64 * 1024..=1024 * 1024 * 1024);
        number("watch.max_bandwidth", self.watch.max_bandwidth as usize, 64 * 1024..=u32::MAX as usize);
        number("broker.relay_batch", self.broker.relay_batch as usize, 1..=10_000);
        number("broker.prefetch", self.broker.prefetch.into(), 1..=10_000);
        wrong.extend(self.broker.problems());
        self.check_security(&mut wrong);
        self.sessions.check(&mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError(wrong)) }
    }
}

fn address_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

fn or_empty<S: serde::Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(""),
    }
}

#[cfg(test)]
mod tests {
    use figment::{
        Figment,
        providers::{Format, Toml},
    };

    use super::*;

    #[test]
    fn the_documented_defaults_are_valid() {
        let figment = Figment::from(Toml::string(DEFAULTS));
        figment.extract::<Config>().expect("readable").check().expect("within bounds");
    }

    #[test]
    fn secrets_print_redacted() {
        for (url, printed) in [
            ("postgres://me:s3cret@db.example/x", "postgres://me:***@db.example/x"),
            ("postgres://me:p@ss@db.example/x", "postgres://me:***@db.example/x"),
            ("postgres://me@db.example/x?password=s3cret", "postgres://me@db.example/x?***"),
            ("host=db password=s3cret", "***"),
            ("", ""),
        ] {
            assert_eq!(SecretUrl(url.into()).to_string(), printed);
            assert_eq!(format!("{:?}", SecretUrl(url.into())), format!("{printed:?}"));
        }
    }
}
