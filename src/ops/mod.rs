//! Use cases: what is one transaction.
//!
//! A mutation of an existing event or reservation is a command, and [`execute`] is the one engine that carries it out.
//! The rest is one file a use case.
//!
//! Everything runs in tasks of its own, tracked by [`Ledger`]: a caller that hangs up never abandons
//! a transaction half-way.

pub mod concurrency_test;
pub mod contention;
pub mod create_events;
mod env;
pub mod error;
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
    store::Pool,
    telemetry::metrics::Metrics,
};
pub use error::OpError;
pub use stats::ExecStats;

/// The use cases, with what they need. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    env: Env,
    queue: Queue,
    watermark: Arc<ExpiryWatermark>,
    hold_limit: HoldLimit,
}

impl Ledger {
    /// A ledger in the database that `pool` connects to.
    pub fn new(pool: Pool, settings: Execution, watch: config::Watch, metrics: Arc<Metrics>) -> Self {
        let (contention, feed, tasks) = (Arc::new(Contention::new()), Feed::new(watch), TaskTracker::new());
        let env = Env { database: pool, settings, metrics, contention, feed, tasks };
        Self { env, queue: Queue::new(settings), watermark: Arc::default(), hold_limit: HoldLimit::default() }
    }

    /// The same, where one user may have at most so many live holds over all events; 0: any number.
    #[must_use]
    pub fn with_hold_limit(self, limit: u32) -> Self {
        Self { hold_limit: HoldLimit::of(limit), ..self }
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.env.metrics)
    }

    /// Its connections.
    pub fn pool(&self) -> &Pool {
        &self.env.database
    }

    /// The `limit` events on which callers waited most for each other in the last `window`.
    pub fn contention(&self, window: std::time::Duration, limit: usize) -> Vec<EventContention> {
        self.env.contention.report(window, limit)
    }

    /// Waits until every task has ended. To be called when nothing new is started any more.
    pub async fn drained(&self) {
        self.env.tasks.close();
        self.env.tasks.wait().await;
    }
}
