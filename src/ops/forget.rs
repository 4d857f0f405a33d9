//! Deletes changes that are older than the retention, in small steps.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ledger, OpError};
use crate::store::{Budget, changes};

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

impl Ledger {
    /// Deletes up to `limit` changes older than `age`, and returns how many.
    pub async fn forget_changes(&self, age: Duration, limit: u32) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.detached(async move {
            let budget = Budget { deadline: Instant::now() + STEP_LIMIT, max_lock_wait: ledger.settings.max_lock_wait };
            let mut tx = ledger.pool.begin("forget", budget).await?;
            let result = changes::forget(&mut tx, age, limit).await;
            let forgotten = tx.finish(result, |count| *count > 0).await?;
            ledger.metrics.changes_forgotten.inc_by(forgotten);
            Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
        })
        .await
    }
}
