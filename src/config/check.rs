//! The bounds of the settings. The sections of security, sessions and the broker have their own.

use std::time::Duration;

use super::{
    problems::{ConfigError, Problems},
    settings::{Config, Database, Execution, Server, Watch},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Config {
    /// Reports everything that is wrong.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        self.server.check(&mut problems);
        self.database.check(&mut problems);
        self.execution.check(&mut problems);
        self.watch.check(&mut problems);
        problems.duration("expiry.interval", self.expiry.interval, MS..=HOUR);
        problems.number("expiry.batch", self.expiry.batch as usize, 1..=10_000);
        problems.duration("waitlist.promotion_interval", self.waitlist.promotion_interval, MS..=HOUR);
        problems.duration("retention.changes", self.retention.changes, DAY..=3650 * DAY);
        problems.duration("retention.counts", self.retention.counts, DAY..=3650 * DAY);
        problems.duration("retention.ended_reservations", self.retention.ended_reservations, DAY..=36500 * DAY);
        self.broker.check(&mut problems);
        self.tls.check(&mut problems);
        self.auth.check(&mut problems);
        self.limits.check(&mut problems);
        self.sessions.check(&mut problems);
        self.web.check(&mut problems);
        problems.require(
            self.telemetry.otlp_endpoint.is_http_or_empty(),
            "telemetry.otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) is not a URL such as http://127.0.0.1:4317",
        );
        problems.into_result()
    }
}

impl Server {
    fn check(&self, problems: &mut Problems) {
        problems.duration("server.default_deadline", self.default_deadline, MS..=HOUR);
        problems.duration("server.max_deadline", self.max_deadline, self.default_deadline..=HOUR);
        problems.duration("server.handshake_timeout", self.handshake_timeout, MS..=HOUR);
        problems.duration("server.message_timeout", self.message_timeout, MS..=HOUR);
        problems.duration("server.response_timeout", self.response_timeout, MS..=HOUR);
        problems.duration("server.keepalive_interval", self.keepalive_interval, SECOND..=HOUR);
        problems.duration("server.keepalive_timeout", self.keepalive_timeout, 100 * MS..=HOUR);
        problems.duration("server.max_connection_age", self.max_connection_age, Duration::ZERO..=30 * DAY);
        problems.duration("server.drain_limit", self.drain_limit, MS..=HOUR);
        problems.number("server.worker_threads", self.worker_threads, 0..=1024);
        problems.number("server.max_in_flight", self.max_in_flight, 1..=1_000_000);
        problems.number("server.max_large_responses", self.max_large_responses, 1..=10_000);
        problems.number("server.max_costly_calls", self.max_costly_calls, 1..=10_000);
        let streams = self.max_streams_per_connection as usize;
        problems.number("server.max_streams_per_connection", streams, 1..=100_000);
        problems.number("server.max_request_bytes", self.max_request_bytes, 1024..=64 * 1024 * 1024);
    }
}

impl Database {
    fn check(&self, problems: &mut Problems) {
        problems.duration("database.connect_timeout", self.connect_timeout, Duration::ZERO..=HOUR);
        problems.number("database.max_connections", self.max_connections as usize, 2..=1000);
        problems.duration("database.acquire_timeout", self.acquire_timeout, MS..=HOUR);
        problems.duration("database.statement_timeout", self.statement_timeout, 100 * MS..=HOUR);
        let idle_in_transaction = self.idle_in_transaction_session_timeout;
        problems.duration("database.idle_in_transaction_session_timeout", idle_in_transaction, 100 * MS..=HOUR);
        problems.duration("database.max_lifetime", self.max_lifetime, SECOND..=DAY);
    }
}

impl Execution {
    fn check(&self, problems: &mut Problems) {
        problems.duration("execution.backoff_base", self.backoff_base, Duration::ZERO..=HOUR);
        problems.duration("execution.backoff_cap", self.backoff_cap, self.backoff_base..=HOUR);
        problems.duration("execution.max_lock_wait", self.max_lock_wait, MS..=HOUR);
        problems.number("execution.max_attempts", self.max_attempts as usize, 1..=100);
        problems.number("execution.lanes", self.lanes, 1..=64);
        problems.number("execution.max_batch", self.max_batch, 1..=5000);
        problems.number("execution.max_queue", self.max_queue, 1..=1_000_000);
        problems.number("execution.cached_events", self.cached_events, 0..=10_000_000);
    }
}

impl Watch {
    fn check(&self, problems: &mut Problems) {
        problems.number("watch.max_watches", self.max_watches, 1..=1_000_000);
        problems.duration("watch.poll_interval", self.poll_interval, MS..=HOUR);
        problems.duration("watch.min_interval", self.min_interval, Duration::ZERO..=HOUR);
        problems.duration("watch.heartbeat_interval", self.heartbeat_interval, MS..=HOUR);
        problems.number("watch.buffer_bytes", self.buffer_bytes, 64 * 1024..=1024 * 1024 * 1024);
        problems.number("watch.max_bandwidth", self.max_bandwidth as usize, 64 * 1024..=u32::MAX as usize);
    }
}
