//! The metrics, each declared once, with its labels and its unit in its name.
//!
//! They belong to one server, not to the process, so that two servers in one test do not mix.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

/// Seconds, from the fastest RPC to the longest deadline.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0, 16.0];

/// Commands, from a lone one to the largest batch.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The metrics of one server.
pub struct Metrics {
    registry: Registry,
    /// RPCs ended, by method and code.
    pub rpcs: IntCounterVec,
    /// How long RPCs took, by method.
    pub rpc_seconds: HistogramVec,
    /// RPCs under way.
    pub rpcs_in_flight: IntGauge,
    /// RPCs refused because too many were under way.
    pub rpcs_shed: IntCounter,
    /// Lists and batches: `under_way`, and `waiting` for their turn.
    pub large_answers: IntGaugeVec,
    /// Times that a connection was not read for a while, because calls under way were many.
    pub reads_rested: IntCounter,
    /// RPCs that were not let in, by reason.
    pub calls_denied: IntCounterVec,
    /// Questions to Redis about a session, by outcome: `good`, `ended`, `unavailable`.
    pub session_lookups: IntCounterVec,
    /// Sessions revoked by this server, by what for: `call`, `message`, `limit`.
    pub sessions_revoked: IntCounterVec,
    /// 1 while it is heard of every session that is revoked, else 0.
    pub sessions_subscribed: IntGauge,
    /// Connections that were not let in, by why.
    pub connections_refused: IntCounterVec,
    /// Connections that were closed on clients that kept the server waiting or busy, by why.
    pub connections_closed: IntCounterVec,
    /// Mutations ended, by operation, strategy and outcome: `ok`, `replayed`, or the reason of a no.
    pub outcomes: IntCounterVec,
    /// Attempts that found another version than they had read, by operation.
    pub version_conflicts: IntCounterVec,
    /// Attempts beyond the first, by operation and strategy.
    pub retries: IntCounterVec,
    /// How long it took to get the event's row lock, by operation.
    pub lock_wait_seconds: HistogramVec,
    /// How many commands were committed together, by batch.
    pub batch_sizes: Histogram,
    /// How long commands waited for their turn in a batch.
    pub batch_wait_seconds: Histogram,
    /// Commands that wait for their turn in a batch, or are in one.
    pub batch_commands: IntGauge,
    /// Commands refused because their wait would have been too long, or the queue was full.
    pub batch_shed: IntCounter,
    /// Batches cut in two because they failed.
    pub batch_splits: IntCounter,
    /// Commands decided without a reading.
    pub batch_presumed: IntCounter,
    /// Commands of batches that rested on what was not so, and were read for after all.
    pub batch_mistaken: IntCounter,
    /// Connections to PostgreSQL: `in_use` and `max`.
    pub pool_connections: IntGaugeVec,
    /// Waitlist entries that wait.
    pub waitlist_waiting: IntGauge,
    /// Lapsed holds that are still in the books; at most 100,000 are counted.
    pub expiry_backlog: IntGauge,
    /// How long the oldest lapsed hold in the books is overdue.
    pub expiry_lag_seconds: Gauge,
    /// How long after its expire time the sweeper released a hold.
    pub expiry_delay_seconds: Histogram,
    /// Watches under way.
    pub watches: IntGauge,
    /// Watches ended, by reason; those whose callers hung up are not among them.
    pub watch_ends: IntCounterVec,
    /// How long after it was decided a change was read for those who watch its event.
    pub feed_delay_seconds: Histogram,
    /// Runs of background work that failed, by worker.
    pub worker_failures: IntCounterVec,
    /// Changes deleted because they were older than the retention.
    pub changes_forgotten: IntCounter,
    /// Ended reservations deleted because they were older than the retention.
    pub reservations_forgotten: IntCounter,
    /// Changes that the broker has taken and routed.
    pub relay_delivered: IntCounter,
    /// Changes that the broker took, but had no queue for; they are kept in `relay_returned`.
    pub relay_returned: IntCounter,
    /// Changes that wait to be published, up to a million.
    pub relay_backlog: IntGauge,
    /// How long the first of them has waited.
    pub relay_lag_seconds: Gauge,
    /// 1 on the server whose relay is the active one, else 0.
    pub relay_active: IntGauge,
    /// Times that the relay or the consumer of commands lost its broker or its database, or did not get
    /// there, by part: `relay` or `commands`.
    pub broker_failures: IntCounterVec,
    /// Commands from the broker, by command and outcome: `ok`, `replayed`, or the reason of a no.
    pub broker_commands: IntCounterVec,
    /// Answers to such commands that found no queue.
    pub broker_replies_unroutable: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// New metrics, all at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        Self {
            rpcs: counters(r, "reservd_rpcs_total", "RPCs ended", &["method", "code"]),
            rpc_seconds: histograms(r, "reservd_rpc_duration_seconds", "How long RPCs took", &["method"]),
            rpcs_in_flight: register(r, IntGauge::new("reservd_rpcs_in_flight", "RPCs under way")),
            rpcs_shed: register(r, IntCounter::new("reservd_rpcs_shed_total", "RPCs refused: too many under way")),
            large_answers: register(
                r,
                IntGaugeVec::new(Opts::new("reservd_large_answers", "Lists and batches"), &["state"]),
            ),
            reads_rested: register(
                r,
                IntCounter::new("reservd_reads_rested_total", "Times that a connection waited for its turn to be read"),
            ),
            calls_denied: counters(r, "reservd_calls_denied_total", "RPCs not let in, by reason", &["reason"]),
            session_lookups: counters(
                r,
                "reservd_session_lookups_total",
                "Questions to Redis about a session, by outcome",
                &["outcome"],
            ),
            sessions_revoked: counters(
                r,
                "reservd_sessions_revoked_total",
                "Sessions revoked by this server, by what for",
                &["by"],
            ),
            sessions_subscribed: register(
                r,
                IntGauge::new("reservd_sessions_subscribed", "1 while it is heard of every session that is revoked"),
            ),
            connections_refused: counters(
                r,
                "reservd_connections_refused_total",
                "Connections not let in, by why",
                &["why"],
            ),
            connections_closed: counters(
                r,
                "reservd_connections_closed_total",
                "Connections closed on clients that kept the server waiting or busy, by why",
                &["why"],
            ),
            outcomes: counters(
                r,
                "reservd_outcomes_total",
                "Mutations ended, by outcome",
                &["operation", "strategy", "outcome"],
            ),
            version_conflicts: counters(
                r,
                "reservd_version_conflicts_total",
                "Attempts that found another version than they had read",
                &["operation"],
            ),
            retries: counters(r, "reservd_retries_total", "Attempts beyond the first", &["operation", "strategy"]),
            lock_wait_seconds: histograms(
                r,
                "reservd_lock_wait_seconds",
                "How long it took to get the event's row lock",
                &["operation"],
            ),
            batch_sizes: histogram(r, "reservd_batch_size", "Commands committed together", &BATCH_BUCKETS),
            batch_wait_seconds: histogram(
                r,
                "reservd_batch_wait_seconds",
                "How long commands waited for their turn in a batch",
                &LATENCY_BUCKETS,
            ),
            batch_commands: register(
                r,
                IntGauge::new("reservd_batch_commands", "Commands that wait for a batch, or are in one"),
            ),
            batch_shed: register(
                r,
                IntCounter::new("reservd_batch_shed_total", "Commands refused: the wait would be too long"),
            ),
            batch_splits: register(
                r,
                IntCounter::new("reservd_batch_splits_total", "Batches cut in two because they failed"),
            ),
            batch_presumed: register(
                r,
                IntCounter::new("reservd_batch_presumed_total", "Commands decided without a reading"),
            ),
            batch_mistaken: register(
                r,
                IntCounter::new("reservd_batch_mistaken_total", "Commands that had to be read for after all"),
            ),
            pool_connections: register(
                r,
                IntGaugeVec::new(Opts::new("reservd_pool_connections", "Connections to PostgreSQL"), &["state"]),
            ),
            waitlist_waiting: register(r, IntGauge::new("reservd_waitlist_waiting", "Waitlist entries that wait")),
            expiry_backlog: register(
                r,
                IntGauge::new("reservd_expiry_backlog", "Lapsed holds that are still in the books"),
            ),
            expiry_lag_seconds: register(
                r,
                Gauge::new("reservd_expiry_lag_seconds", "How long the oldest lapsed hold is overdue"),
            ),
            expiry_delay_seconds: histogram(
                r,
                "reservd_expiry_delay_seconds",
                "How long after its expire time a hold was released by the sweeper",
                &LATENCY_BUCKETS,
            ),
            watches: register(r, IntGauge::new("reservd_watches", "Watches under way")),
            watch_ends: counters(r, "reservd_watch_ends_total", "Watches ended, by reason", &["reason"]),
            feed_delay_seconds: histogram(
                r,
                "reservd_feed_delay_seconds",
                "How long after it was decided a change was read for those who watch",
                &LATENCY_BUCKETS,
            ),
            worker_failures: counters(r, "reservd_worker_failures_total", "Background runs that failed", &["worker"]),
            changes_forgotten: register(
                r,
                IntCounter::new("reservd_changes_forgotten_total", "Changes deleted for their age"),
            ),
            reservations_forgotten: register(
                r,
                IntCounter::new("reservd_reservations_forgotten_total", "Ended reservations deleted for their age"),
            ),
            relay_delivered: register(
                r,
                IntCounter::new("reservd_relay_delivered_total", "Changes that the broker has taken and routed"),
            ),
            relay_returned: register(
                r,
                IntCounter::new("reservd_relay_returned_total", "Changes that the broker had no queue for"),
            ),
            relay_backlog: register(
                r,
                IntGauge::new("reservd_relay_backlog_changes", "Changes that wait to be published, up to a million"),
            ),
            relay_lag_seconds: register(
                r,
                Gauge::new("reservd_relay_lag_seconds", "How long the first change to be published has waited"),
            ),
            relay_active: register(
                r,
                IntGauge::new("reservd_relay_active", "1 on the server whose relay is the active one"),
            ),
            broker_failures: counters(
                r,
                "reservd_broker_failures_total",
                "Times that the way to the broker or from the outbox was lost",
                &["part"],
            ),
            broker_commands: counters(
                r,
                "reservd_broker_commands_total",
                "Commands from the broker, by outcome",
                &["command", "outcome"],
            ),
            broker_replies_unroutable: register(
                r,
                IntCounter::new("reservd_broker_replies_unroutable_total", "Answers to commands that found no queue"),
            ),
            registry,
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory cannot fail; a family without samples is left out by the encoder.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }

    /// Takes note of how many connections are lent, of how many.
    pub fn set_pool_usage(&self, (in_use, max): (usize, usize)) {
        for (state, count) in [("in_use", in_use), ("max", max)] {
            self.pool_connections.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Takes note of how many lists and batches are under way, and how many wait.
    pub fn show_large_answers(&self, under_way: usize, waiting: usize) {
        for (state, count) in [("under_way", under_way), ("waiting", waiting)] {
            self.large_answers.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Takes note of how long a hold outlived its time.
    pub fn observe_expiry(&self, delay: Duration) {
        self.expiry_delay_seconds.observe(delay.as_secs_f64());
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec()), labels))
}

/// Names, labels and buckets are the constants above: an error here is a misspelt one, and every test
/// that makes a `Metrics` finds it.
fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("the declaration of a metric is well-formed");
    registry.register(Box::new(collector.clone())).expect("a metric is declared once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_in_prometheus_text_format() {
        let metrics = Metrics::new();
        metrics.rpcs.with_label_values(&["Reserve", "OK"]).inc();
        metrics.set_pool_usage((3, 16));
        let text = String::from_utf8(metrics.render()).expect("text");
        assert!(text.contains("reservd_rpcs_total{code=\"OK\",method=\"Reserve\"} 1"), "{text}");
        assert!(text.contains("reservd_pool_connections{state=\"in_use\"} 3"), "{text}");
    }
}
