//! The metrics, each declared once, with its labels and its unit in its name. docs/METRICS.md is made of them.
//!
//! They belong to one server, so that two servers in one test do not mix. Those of the process (`process_*`) are read
//! when they are asked for, where there is a `/proc`.

use std::time::Duration;

#[cfg(target_os = "linux")]
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result, TextEncoder, core::Collector,
};

/// Seconds, from the fastest RPC to the longest deadline.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0, 16.0];

/// Commands, from a single one to the largest batch.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// How a metric is declared, for a page about it.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Its exported name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts or measures.
    pub help: &'static str,
}

/// A metric that a declaration can make.
trait Metric: Collector + Clone + Sized + 'static {
    const KIND: &'static str;

    fn new(opts: Opts, labels: &[&str]) -> Result<Self>;
}

macro_rules! metric {
    ($($kind:literal $metric:ident = |$opts:ident, $labels:pat_param| $make:expr;)+) => {
        $(impl Metric for $metric {
            const KIND: &'static str = $kind;

            fn new($opts: Opts, $labels: &[&str]) -> Result<Self> {
                $make
            }
        })+
    };
}

metric! {
    "counter" IntCounter = |opts, _| IntCounter::with_opts(opts);
    "counter" IntCounterVec = |opts, labels| IntCounterVec::new(opts, labels);
    "gauge" Gauge = |opts, _| Gauge::with_opts(opts);
    "gauge" IntGauge = |opts, _| IntGauge::with_opts(opts);
    "gauge" IntGaugeVec = |opts, labels| IntGaugeVec::new(opts, labels);
    "histogram" Histogram = |opts, _| Histogram::with_opts(histogram(opts));
    "histogram" HistogramVec = |opts, labels| HistogramVec::new(histogram(opts), labels);
}

/// The buckets follow from the unit: seconds or commands.
fn histogram(opts: Opts) -> HistogramOpts {
    let buckets = if opts.name.ends_with("_seconds") { LATENCY_BUCKETS.to_vec() } else { BATCH_BUCKETS.to_vec() };
    HistogramOpts { common_opts: opts, buckets }
}

/// Declares the metrics: the help text, the field, its type, its exported name and its labels.
macro_rules! metrics {
    ($(#[doc = $help:literal] $field:ident: $type:ty = $name:literal [$($label:literal),*];)+) => {
        /// The metrics of one server.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)+
        }

        impl Metrics {
            /// All of them, in order.
            pub const DECLARATIONS: &[Declaration] = &[
                $(Declaration { name: $name, kind: <$type>::KIND, labels: &[$($label),*], help: $help.trim_ascii() },)+
            ];

            /// New metrics, all at zero.
            pub fn new() -> Self {
                let registry = Registry::new();
                register_process(&registry);
                let metrics = Self { $($field: register(&registry, $name, $help, &[$($label),*]),)+ registry };
                metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                metrics
            }
        }
    };
}

metrics! {
    /// Always 1, with the version of the program.
    build_info: IntGaugeVec = "reservd_build_info" ["version"];
    /// RPCs finished, by method and code.
    rpcs: IntCounterVec = "reservd_rpcs_total" ["method", "code"];
    /// The duration of RPCs, by method.
    rpc_seconds: HistogramVec = "reservd_rpc_duration_seconds" ["method"];
    /// RPCs in flight.
    rpcs_in_flight: IntGauge = "reservd_rpcs_in_flight" [];
    /// RPCs refused because too many were in flight.
    rpcs_shed: IntCounter = "reservd_rpcs_shed_total" [];
    /// Calls of the classes `large` and `costly`, by state: `in_flight` or `waiting`.
    call_queue: IntGaugeVec = "reservd_call_queue" ["class", "state"];
    /// Calls that were given the answer of another, which asked the same and began after they had come.
    calls_shared: IntCounterVec = "reservd_calls_shared_total" ["class"];
    /// Pauses in reading a connection because many RPCs were in flight.
    reads_throttled: IntCounter = "reservd_reads_throttled_total" [];
    /// RPCs denied by authentication, authorization or a rate limit, by reason.
    calls_denied: IntCounterVec = "reservd_calls_denied_total" ["reason"];
    /// Lookups of a session in Redis, by outcome: `good`, `ended` or `unavailable`.
    session_lookups: IntCounterVec = "reservd_session_lookups_total" ["outcome"];
    /// Sessions revoked by this server, by cause: `call`, `message` or `limit`.
    sessions_revoked: IntCounterVec = "reservd_sessions_revoked_total" ["by"];
    /// 1 while this server receives every revocation of a session, else 0.
    sessions_subscribed: IntGauge = "reservd_sessions_subscribed" [];
    /// Connections refused, by cause.
    connections_refused: IntCounterVec = "reservd_connections_refused_total" ["why"];
    /// Connections closed because their client was too slow or abusive, by cause.
    connections_closed: IntCounterVec = "reservd_connections_closed_total" ["why"];
    /// Mutations finished, by operation, strategy and outcome: `ok`, `replayed`, or the reason of a refusal.
    outcomes: IntCounterVec = "reservd_outcomes_total" ["operation", "strategy", "outcome"];
    /// Attempts that found a newer version than they had read, by operation.
    version_conflicts: IntCounterVec = "reservd_version_conflicts_total" ["operation"];
    /// Attempts after the first, by operation and strategy.
    retries: IntCounterVec = "reservd_retries_total" ["operation", "strategy"];
    /// The wait for the event's row lock, by operation.
    lock_wait_seconds: HistogramVec = "reservd_lock_wait_seconds" ["operation"];
    /// Commands committed together, by batch.
    batch_sizes: Histogram = "reservd_batch_size" [];
    /// The wait of commands for their batch.
    batch_wait_seconds: Histogram = "reservd_batch_wait_seconds" [];
    /// Commands that wait for a batch, or are in one.
    batch_commands: IntGauge = "reservd_batch_commands" [];
    /// Commands refused because the queue was full or the wait too long.
    batch_shed: IntCounter = "reservd_batch_shed_total" [];
    /// Batches split in two after a failure.
    batch_splits: IntCounter = "reservd_batch_splits_total" [];
    /// Commands decided speculatively, without a read.
    batch_speculative: IntCounter = "reservd_batch_speculative_total" [];
    /// Commands whose speculation was wrong, so that they were decided again after a read.
    batch_mispredicted: IntCounter = "reservd_batch_mispredicted_total" [];
    /// Connections to PostgreSQL that calls use now.
    pool_connections_in_use: IntGauge = "reservd_pool_connections_in_use" [];
    /// Connections to PostgreSQL that calls may use: `database.max_connections`.
    pool_connections_max: IntGauge = "reservd_pool_connections_max" [];
    /// Waitlist entries that wait.
    waitlist_waiting: IntGauge = "reservd_waitlist_waiting" [];
    /// Holds past their expire time that are not expired yet; at most 100,000 are counted.
    expiry_backlog: IntGauge = "reservd_expiry_backlog" [];
    /// The delay of the oldest hold that is not expired yet.
    expiry_lag_seconds: Gauge = "reservd_expiry_lag_seconds" [];
    /// The time between a hold's expire time and its expiry.
    expiry_delay_seconds: Histogram = "reservd_expiry_delay_seconds" [];
    /// Watches in flight.
    watches: IntGauge = "reservd_watches" [];
    /// Watches ended by the server, by reason.
    watch_ends: IntCounterVec = "reservd_watch_ends_total" ["reason"];
    /// The time between a change's decision and its read for the watchers of its event.
    feed_delay_seconds: Histogram = "reservd_feed_delay_seconds" [];
    /// Failed runs of background work, by worker.
    worker_failures: IntCounterVec = "reservd_worker_failures_total" ["worker"];
    /// Changes deleted by retention.
    retention_changes: IntCounter = "reservd_retention_changes_total" [];
    /// Ended reservations deleted by retention.
    retention_reservations: IntCounter = "reservd_retention_reservations_total" [];
    /// Changes that the broker accepted and routed.
    relay_delivered: IntCounter = "reservd_relay_delivered_total" [];
    /// Changes that the broker returned because no queue matched; they are kept in `relay_returned`.
    relay_returned: IntCounter = "reservd_relay_returned_total" [];
    /// Changes that wait to be published, up to a million.
    relay_backlog: IntGauge = "reservd_relay_backlog_changes" [];
    /// The age of the oldest change that waits to be published.
    relay_lag_seconds: Gauge = "reservd_relay_lag_seconds" [];
    /// 1 on the server whose relay is active, else 0.
    relay_active: IntGauge = "reservd_relay_active" [];
    /// Failures of a broker part to reach the broker or the database, by part.
    broker_failures: IntCounterVec = "reservd_broker_failures_total" ["part"];
    /// Commands from the broker, by command and outcome: `ok`, `replayed`, or the reason of a refusal.
    broker_commands: IntCounterVec = "reservd_broker_commands_total" ["command", "outcome"];
    /// Replies to such commands that matched no queue.
    broker_replies_unroutable: IntCounter = "reservd_broker_replies_unroutable_total" [];
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory cannot fail; the encoder leaves out a family without samples.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }

    /// Sets how many connections are in use, and of how many.
    pub fn set_pool_usage(&self, (in_use, max): (usize, usize)) {
        self.pool_connections_in_use.set(gauged(in_use));
        self.pool_connections_max.set(gauged(max));
    }

    /// Sets how many calls of a class that take turns are in flight, and how many wait.
    pub fn set_call_queue(&self, class: &str, in_flight: usize, waiting: usize) {
        for (state, count) in [("in_flight", in_flight), ("waiting", waiting)] {
            self.call_queue.with_label_values(&[class, state]).set(gauged(count));
        }
    }

    /// Records the delay of an expiry.
    pub fn observe_expiry(&self, delay: Duration) {
        self.expiry_delay_seconds.observe(delay.as_secs_f64());
    }
}

fn gauged(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The processor time, memory and file descriptors of the process, under the names that Prometheus recommends.
fn register_process(registry: &Registry) {
    #[cfg(target_os = "linux")]
    let _ = registry.register(Box::new(ProcessCollector::for_self()));
    #[cfg(not(target_os = "linux"))]
    let _ = registry;
}

/// The declarations above are constants: each test that makes a `Metrics` finds a malformed or a repeated one.
fn register<M: Metric>(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> M {
    let metric = M::new(Opts::new(name, help.trim_ascii()), labels).expect("a metric is well-formed");
    registry.register(Box::new(metric.clone())).expect("a metric is declared once");
    metric
}

#[cfg(test)]
mod tests;
