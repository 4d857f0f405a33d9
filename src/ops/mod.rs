//! Use cases: what is one transaction.
//!
//! A mutation of an existing event or reservation is a command, and [`execute`] carries it out with
//! one of the executors: `pessimistic` and `optimistic`, which load, decide and write one command
//! with `attempt` and differ in how they get exclusivity, and `coalesced`, which does so with a
//! whole batch. The rest is one file a use case.
//!
//! Everything runs in tasks of its own, tracked by [`Ledger`]: a caller that hangs up never abandons
//! a transaction half-way.

mod attempt;
mod coalesced;

pub mod concurrency_test;
pub mod contention;
pub mod create_events;
pub mod error;
pub mod execute;
pub mod expire;
pub mod feed;
pub mod forget;
mod hold_limit;
mod line;
mod optimistic;
mod pessimistic;
pub mod place;
pub mod read;
pub mod relay;
pub mod serve;

use std::{future::Future, sync::Arc};

use tokio_util::task::TaskTracker;
use tracing::Instrument;

use coalesced::Coalescer;
use contention::{Contention, EventContention};
use feed::Feed;
use hold_limit::HoldLimit;

use crate::{
    config::{self, Execution},
    store::Pool,
    telemetry::metrics::Metrics,
};
pub use error::OpError;

/// The use cases, with what they need. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    pool: Pool,
    settings: Execution,
    metrics: Arc<Metrics>,
    coalescer: Coalescer,
    contention: Arc<Contention>,
    feed: Feed,
    swept: Arc<expire::Swept>,
    hold_limit: HoldLimit,
    tasks: TaskTracker,
}

impl Ledger {
    /// A ledger in the database that `pool` connects to.
    pub fn new(pool: Pool, settings: Execution, watch: config::Watch, metrics: Arc<Metrics>) -> Self {
        let coalescer = Coalescer::new(settings);
        let (contention, feed, hold_limit) = (Arc::new(Contention::new()), Feed::new(watch), HoldLimit::default());
        let (swept, tasks) = (Arc::default(), TaskTracker::new());
        Self { pool, settings, metrics, coalescer, contention, feed, swept, hold_limit, tasks }
    }

    /// The same, where one user may have at most so many live holds over all events; 0: any number.
    #[must_use]
    pub fn with_hold_limit(self, limit: u32) -> Self {
        Self { hold_limit: HoldLimit::of(limit), ..self }
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Its connections.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The `limit` events on which callers waited most for each other in the last `window`.
    pub fn contention(&self, window: std::time::Duration, limit: usize) -> Vec<EventContention> {
        self.contention.report(window, limit)
    }

    /// Waits until every task has ended. To be called when nothing new is started any more.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs `work` to its end in a task of its own, whether or not the caller goes on waiting.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, OpError>> + Send + 'static,
    ) -> Result<T, OpError> {
        let place = place::held();
        let work = async move {
            let _place = place;
            work.await
        };
        self.tasks.spawn(work.in_current_span()).await.unwrap_or_else(|failed| Err(OpError::Crashed(failed)))
    }
}
