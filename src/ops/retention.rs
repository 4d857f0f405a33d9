//! Retention: deletes old rows in small steps. Changes go event by event, round after round; ended reservations, waitlist
//! entries and samples of counters go oldest first.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Ledger, OpError};
use crate::{
    domain::ids::EventId,
    store::{
        Budget, StoreError, Tx,
        changes::{self, NextStep, Pruned},
        event_counts, relay, reservations, waitlist,
        worker_locks::{self, Work},
    },
};

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// The last event of a round over all events so far; none at the beginning.
#[derive(Clone, Debug, Default)]
pub struct Cursor(Option<EventId>);

/// The most changes returned by the broker that one step deletes.
const RETURNED_A_STEP: u32 = 1000;

impl Ledger {
    /// Deletes changes older than `age` of some events after `cursor`, and returns the cursor for the next step. None:
    /// the round is over, or another server is deleting now. With `has_outbox`, changes that were not delivered to the
    /// broker yet are kept.
    pub async fn prune_changes(
        &self,
        age: Duration,
        cursor: Cursor,
        has_outbox: bool,
    ) -> Result<Option<Cursor>, OpError> {
        let ledger = self.clone();
        self.env
            .spawn_tracked(async move {
                let mut tx = ledger.begin_to_prune().await?;
                let result = prune_changes(&mut tx, age, cursor.0.as_ref(), has_outbox).await;
                let Pruned { changes, next } = tx.finish(result, |_| true).await?;
                ledger.env.metrics.retention_changes.inc_by(changes);
                Ok(match next {
                    NextStep::SameEvents => Some(cursor),
                    NextStep::After(event_id) => Some(Cursor(Some(event_id))),
                    NextStep::RoundIsOver => None,
                })
            })
            .await
    }

    /// Deletes up to `limit` reservations that ended longer than `age` ago, and returns how many.
    pub async fn prune_reservations(&self, age: Duration, limit: u32) -> Result<u32, OpError> {
        let pruned = self.prune_oldest(move |tx| Box::pin(reservations::prune(tx, age, limit))).await?;
        self.env.metrics.retention_reservations.inc_by(pruned.into());
        Ok(pruned)
    }

    /// Deletes up to `limit` waitlist entries that ended longer ago than `age`, and returns how many.
    pub async fn prune_entries(&self, age: Duration, limit: u32) -> Result<u32, OpError> {
        self.prune_oldest(move |tx| Box::pin(waitlist::prune(tx, age, limit))).await
    }

    /// Deletes up to `limit` samples of counters older than `age`, and returns how many.
    pub async fn prune_event_counts(&self, age: Duration, limit: u32) -> Result<u32, OpError> {
        self.prune_oldest(move |tx| Box::pin(event_counts::prune(tx, age, limit))).await
    }

    /// Runs a statement that deletes the oldest rows of a table, and returns how many.
    async fn prune_oldest(
        &self,
        statement: impl for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<u64, StoreError>> + Send + 'static,
    ) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.env
            .spawn_tracked(async move {
                let mut tx = ledger.begin_to_prune().await?;
                let result = statement(&mut tx).await;
                let pruned = tx.finish(result, |count| *count > 0).await?;
                Ok(u32::try_from(pruned).unwrap_or(u32::MAX))
            })
            .await
    }

    async fn begin_to_prune(&self) -> Result<Tx, StoreError> {
        let (asked, max_lock_wait) = (Instant::now(), self.env.settings.max_lock_wait);
        let budget = Budget { asked, deadline: asked + STEP_LIMIT, max_lock_wait };
        self.env.database.begin("retention", budget).await
    }
}

async fn prune_changes(
    tx: &mut Tx,
    age: Duration,
    after: Option<&EventId>,
    has_outbox: bool,
) -> Result<Pruned, StoreError> {
    if worker_locks::try_lock_in_transaction(tx, Work::Retention).await? {
        relay::prune_returned(tx, age, RETURNED_A_STEP).await?;
        changes::prune(tx, age, after, has_outbox).await
    } else {
        Ok(Pruned { changes: 0, next: NextStep::RoundIsOver })
    }
}
