//! PESSIMISTIC: the event's row lock first, everything else under it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Ledger,
    attempt::{self, Loaded, Step},
    execute::How,
};
use crate::{
    domain::{command::Command, refusal::Refusal},
    store::{Budget, StoreError, Tx, context},
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
        let mut tx = self.pool.begin_unlimited(command.operation(), budget).await?;
        let step = under_lock(&mut tx, command, how, lock_wait).await;
        tx.finish(step, |step| matches!(step, Step::Done { replayed: false, .. })).await
    }
}

async fn under_lock(tx: &mut Tx, command: &Command, how: &How, lock_wait: &mut Duration) -> Result<Step, StoreError> {
    let asked = Instant::now();
    let loaded = match context::lock_and_load(tx, command, how.lock_wait).await {
        Ok(Some((context, waited))) => {
            *lock_wait += waited;
            Loaded::of(context, command)
        }
        Ok(None) => None,
        Err(error) => {
            *lock_wait += asked.elapsed();
            return Err(error);
        }
    };
    let Some(loaded) = loaded else { return Ok(Step::Refused(Refusal::EventNotFound)) };
    match attempt::plan(tx, loaded, command).await? {
        Ok(plan) => attempt::write(tx, plan, command).await,
        Err(step) => Ok(step),
    }
}
