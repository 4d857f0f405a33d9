//! Deletes what is older than its retention, in small steps: changes event by event, round after
//! round; reservations that ended, oldest first.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ledger, OpError};
use crate::{
    domain::ids::EventId,
    store::{
        Budget, StoreError, Tx,
        changes::{self, Forgotten, NextStep},
        relay, reservations,
        turns::{self, Turn},
    },
};

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// How far a round over all events has come; at first, nowhere.
#[derive(Clone, Debug, Default)]
pub struct Place(Option<EventId>);

/// How many changes that the broker returned are deleted in one step, at the most.
const RETURNED_A_STEP: u32 = 1000;

impl Ledger {
    /// Deletes changes older than `age` of some events from `place` on, and returns the place where the
    /// next step goes on. None: the round is over, or another server is at it. With `has_outbox`, changes
    /// that were not delivered to the broker yet are kept.
    pub async fn forget_changes(
        &self,
        age: Duration,
        place: Place,
        has_outbox: bool,
    ) -> Result<Option<Place>, OpError> {
        let ledger = self.clone();
        self.detached(async move {
            let mut tx = ledger.begin_to_forget().await?;
            let result = forget_changes(&mut tx, age, place.0.as_ref(), has_outbox).await;
            let Forgotten { changes, next } = tx.finish(result, |_| true).await?;
            ledger.metrics.retention_changes.inc_by(changes);
            Ok(match next {
                NextStep::SameEvents => Some(place),
                NextStep::After(event_id) => Some(Place(Some(event_id))),
                NextStep::RoundIsOver => None,
            })
        })
        .await
    }

    /// Deletes up to `limit` reservations that ended longer than `age` ago, and returns how many.
    pub async fn forget_reservations(&self, age: Duration, limit: u32) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.detached(async move {
            let mut tx = ledger.begin_to_forget().await?;
            let result = reservations::forget(&mut tx, age, limit).await;
            let forgotten = tx.finish(result, |count| *count > 0).await?;
            ledger.metrics.retention_reservations.inc_by(forgotten);
            Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
        })
        .await
    }

    async fn begin_to_forget(&self) -> Result<Tx, StoreError> {
        let budget = Budget { deadline: Instant::now() + STEP_LIMIT, max_lock_wait: self.settings.max_lock_wait };
        self.pool.begin("forget", budget).await
    }
}

async fn forget_changes(
    tx: &mut Tx,
    age: Duration,
    after: Option<&EventId>,
    has_outbox: bool,
) -> Result<Forgotten, StoreError> {
    if turns::take(tx, Turn::Forget).await? {
        relay::forget_returned(tx, age, RETURNED_A_STEP).await?;
        changes::forget(tx, age, after, has_outbox).await
    } else {
        Ok(Forgotten { changes: 0, next: NextStep::RoundIsOver })
    }
}
