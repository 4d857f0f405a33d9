//! OPTIMISTIC: read without a lock, write only what nobody else has changed since.

use super::{
    Ledger,
    attempt::{self, Plan, Step},
    execute::How,
};
use crate::{
    domain::command::Command,
    store::{Budget, LockWait, StoreError, Tx, events},
};

impl Ledger {
    /// One attempt without a lock until it writes. Refusals and replays need no transaction at all.
    pub(super) async fn attempt_optimistic(&self, command: &Command, how: &How) -> Result<Step, StoreError> {
        let plan = match self.plan_unlocked(command, how).await? {
            Ok(plan) => plan,
            Err(step) => return Ok(step),
        };
        let budget = Budget { deadline: how.deadline, max_lock_wait: self.settings.max_lock_wait };
        let mut tx = self.pool.begin(command.operation(), budget).await?;
        let step = write(&mut tx, plan, command, how).await;
        tx.finish(step, |step| matches!(step, Step::Done { .. })).await
    }

    /// What `command` would do now, without doing it.
    pub(super) async fn rehearse(&self, command: &Command, how: &How) -> Result<Step, StoreError> {
        Ok(match self.plan_unlocked(command, how).await? {
            Ok(plan) => Step::Done { change: Box::new(plan.commit.answer().clone()), replayed: false },
            Err(step) => step,
        })
    }

    async fn plan_unlocked(&self, command: &Command, how: &How) -> Result<Result<Plan, Step>, StoreError> {
        let mut conn = self.pool.lease(how.deadline).await?;
        let plan = match attempt::load(&mut conn, command).await? {
            Ok(loaded) => attempt::plan(&mut conn, loaded, command).await?,
            Err(step) => Err(step),
        };
        conn.give_back();
        Ok(plan)
    }
}

async fn write(tx: &mut Tx, plan: Plan, command: &Command, how: &How) -> Result<Step, StoreError> {
    // The write itself would wait for a row that is locked.
    if how.lock_wait == LockWait::NoWait {
        events::lock(tx, &command.event_id, LockWait::NoWait).await?;
    }
    attempt::write(tx, plan, command).await
}
