//! OPTIMISTIC: read without a lock, write only what nobody else has changed since.

use super::{
    Ledger,
    attempt::{self, Loaded, Step},
    execute::How,
};
use crate::{
    domain::{
        command::Command,
        decide::{Commit, Decision, decide},
    },
    store::{Budget, LockWait, StoreError, Tx, events},
};

/// Something to be written, or how the attempt ended without.
type ToWrite = Result<(Loaded, Commit), Step>;

impl Ledger {
    /// One attempt without a lock until it writes. Refusals and replays need no transaction at all.
    pub(super) async fn attempt_optimistic(&self, command: &Command, how: &How) -> Result<Step, StoreError> {
        let (loaded, commit) = match self.decide_unlocked(command, how).await? {
            Ok(to_write) => to_write,
            Err(step) => return Ok(step),
        };
        let budget = Budget { deadline: how.deadline, max_lock_wait: self.settings.max_lock_wait };
        let mut tx = self.pool.begin(command.operation(), budget).await?;
        let step = write(&mut tx, &loaded, command, how, commit).await;
        tx.finish(step, |step| matches!(step, Step::Done { .. })).await
    }

    /// What `command` would do now, without doing it.
    pub(super) async fn rehearse(&self, command: &Command, how: &How) -> Result<Step, StoreError> {
        Ok(match self.decide_unlocked(command, how).await? {
            Ok((_, commit)) => Step::Done { change: Box::new(commit.answer().clone()), replayed: false },
            Err(step) => step,
        })
    }

    async fn decide_unlocked(&self, command: &Command, how: &How) -> Result<ToWrite, StoreError> {
        let mut conn = self.pool.lease(how.deadline).await?;
        let loaded = attempt::load(&mut conn, command).await?;
        conn.give_back();
        Ok(loaded.and_then(|loaded| match decide(&loaded.snapshot, command, loaded.now) {
            Err(refusal) => Err(Step::Refused(refusal)),
            Ok(Decision::Replay(change)) => Err(Step::Done { change, replayed: true }),
            Ok(Decision::Commit(commit)) => Ok((loaded, commit)),
        }))
    }
}

async fn write(tx: &mut Tx, loaded: &Loaded, command: &Command, how: &How, commit: Commit) -> Result<Step, StoreError> {
    // The write itself would wait for a row that is locked.
    if how.lock_wait == LockWait::NoWait {
        events::lock(tx, &command.event_id, LockWait::NoWait).await?;
    }
    attempt::write(tx, loaded, command, commit).await
}
