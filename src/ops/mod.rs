//! Use cases: each is one transaction.
//!
//! A mutation of an existing event or reservation is a command, and [`execute`] is the engine for all commands. Each
//! other use case has a file of its own.
//!
//! Every use case runs in a task tracked by [`Ledger`], so a caller that hangs up never abandons a transaction
//! half-way.

mod clock;
pub mod concurrency_test;
pub mod contention;
pub mod create_events;
mod env;
pub mod error;
mod event_counts;
pub mod execute;
pub mod expiry;
pub mod feed;
mod hold_limit;
pub mod permit;
pub mod promotion;
pub mod read;
pub mod relay;
pub mod retention;
mod stats;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use contention::{Contention, EventContention};
use env::Env;
use execute::queue::Queue;
use expiry::ExpiryWatermark;
use feed::Feed;
use hold_limit::HoldLimit;

use crate::{
    config::{self, Execution},
    domain::time::Timestamp,
    store::Pool,
    telemetry::metrics::Metrics,
};
pub use error::OpError;
pub use stats::ExecStats;

/// The use cases, with what they need. Clones share the same state.
#[derive(Clone)]
pub struct Ledger {
    env: Env,
    /// The connections of reads; those of `env` are for mutations. Neither can use up all of them.
    reads: Pool,
    queue: Queue,
    watermark: Arc<ExpiryWatermark>,
    hold_limit: HoldLimit,
}

impl Ledger {
    /// A ledger on the database that `pool` connects to.
    pub fn new(pool: Pool, settings: Execution, watch: config::Watch, metrics: Arc<Metrics>) -> Self {
        let (contention, feed, tasks) = (Arc::new(Contention::new()), Feed::new(watch), TaskTracker::new());
        let (reads, mutations) = (pool.part(), pool.part());
        let env = Env {
            database: mutations,
            settings,
            metrics,
            contention,
            feed,
            tasks,
            clock: Arc::default(),
            changed: Arc::default(),
        };
        Self { env, reads, queue: Queue::new(settings), watermark: Arc::default(), hold_limit: HoldLimit::default() }
    }

    /// The same ledger, with a limit of live holds that one user may have over all events; 0: no limit.
    #[must_use]
    pub fn with_hold_limit(self, limit: u32) -> Self {
        Self { hold_limit: HoldLimit::of(limit), ..self }
    }

    /// The same ledger on other connections to its database, for work that must not wait for those of callers.
    #[must_use]
    pub fn with_pool(&self, pool: Pool) -> Self {
        Self { reads: pool.clone(), env: Env { database: pool, ..self.env.clone() }, ..self.clone() }
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.env.metrics)
    }

    /// The time by PostgreSQL's clock, as exact as a round trip to it.
    pub fn now(&self) -> Timestamp {
        self.env.clock.now()
    }

    /// Its connections.
    pub fn pool(&self) -> &Pool {
        &self.env.database
    }

    /// The `limit` events on which callers waited most for each other in the last `window`.
    pub fn contention(&self, window: std::time::Duration, limit: usize) -> Vec<EventContention> {
        self.env.contention.report(window, limit)
    }

    /// Waits until every task has ended. Call it when no new task can start.
    pub async fn drained(&self) {
        self.env.tasks.close();
        self.env.tasks.wait().await;
    }
}
