//! PESSIMISTIC: the event's row lock first, everything else under it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Ledger,
    attempt::{self, Step},
    execute::How,
};
use crate::{
    domain::{command::Command, refusal::Refusal},
    store::{Budget, StoreError, Tx, events},
};

impl Ledger {
    /// One attempt under the event's row lock. Adds the time that the lock took to `lock_wait`.
    pub(super) async fn attempt_pessimistic(
        &self,
        command: &Command,
        how: &How,
        lock_wait: &mut Duration,
    ) -> Result<Step, StoreError> {
        let budget = Budget { deadline: how.deadline, max_lock_wait: self.settings.max_lock_wait };
        let mut tx = self.pool.begin(command.operation(), budget).await?;
        let step = under_lock(&mut tx, command, how, lock_wait).await;
        tx.finish(step, |step| matches!(step, Step::Done { replayed: false, .. })).await
    }
}

async fn under_lock(tx: &mut Tx, command: &Command, how: &How, lock_wait: &mut Duration) -> Result<Step, StoreError> {
    let asked = Instant::now();
    let locked = events::lock(tx, &command.event_id, how.lock_wait).await;
    *lock_wait += asked.elapsed();
    if !locked? {
        return Ok(Step::Refused(Refusal::EventNotFound));
    }
    let loaded = match attempt::load(tx, command).await? {
        Ok(loaded) => loaded,
        Err(step) => return Ok(step),
    };
    match attempt::plan(tx, loaded, command).await? {
        Ok(plan) => attempt::write(tx, plan, command).await,
        Err(step) => Ok(step),
    }
}
