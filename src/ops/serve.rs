//! Serves those who wait where no command does it: when booking begins at its time, say.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ledger, OpError, line};
use crate::{
    domain::{ids::EventId, snapshot::Snapshot},
    store::{
        Budget, LockWait, StoreError, Tx,
        apply::{self, Decided},
        events, waitlist,
    },
};

/// How long one run may take.
const RUN_LIMIT: Duration = Duration::from_secs(10);

impl Ledger {
    /// Serves those who wait for up to `limit` events where free places fit somebody whose turn it is,
    /// and returns for how many events it did.
    ///
    /// Every command serves the line itself, in its own transaction; what is left to do here is what no
    /// command causes.
    pub async fn serve_waiting(&self, limit: u32) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.detached(async move {
            let deadline = Instant::now() + RUN_LIMIT;
            let mut conn = ledger.pool.lease(deadline).await?;
            let unserved = waitlist::unserved(&mut conn, limit).await?;
            conn.give_back();
            let mut served = 0;
            for event_id in unserved {
                let budget = Budget { deadline, max_lock_wait: ledger.settings.max_lock_wait };
                let mut tx = ledger.pool.begin("serve_waiting", budget).await?;
                let result = serve_one(&mut tx, &event_id).await;
                if tx.finish(result, |is_served| *is_served).await? {
                    ledger.feed.note(&event_id);
                    served += 1;
                }
            }
            Ok(served)
        })
        .await
    }

    /// Deletes up to `limit` waitlist entries that ended longer ago than `age`, and returns how many.
    pub async fn forget_entries(&self, age: Duration, limit: u32) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.detached(async move {
            let budget = Budget { deadline: Instant::now() + RUN_LIMIT, max_lock_wait: ledger.settings.max_lock_wait };
            let mut tx = ledger.pool.begin("forget_entries", budget).await?;
            let result = waitlist::forget(&mut tx, age, limit).await;
            let forgotten = tx.finish(result, |count| *count > 0).await?;
            Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
        })
        .await
    }
}

async fn serve_one(tx: &mut Tx, event_id: &EventId) -> Result<bool, StoreError> {
    events::lock(tx, event_id, LockWait::Wait).await?;
    let now = events::now(tx).await?;
    let Some(event) = events::get(tx, event_id).await? else { return Ok(false) };
    let seen = event.counters;
    let mut snapshot = Snapshot::new(event);
    let promotions = line::serve(tx, &mut snapshot, now).await?;
    if promotions.is_empty() {
        return Ok(false);
    }
    apply::apply(tx, &[Decided { event_id, seen, commits: promotions.iter().collect() }]).await
}
