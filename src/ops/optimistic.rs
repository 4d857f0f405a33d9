//! OPTIMISTIC: read without a lock, write only what nobody else has changed since.

use super::{
    Ledger,
    attempt::{self, Loaded, Step},
    execute::How,
};
use crate::{
    domain::{
        command::Command,
        decide::{Decision, decide},
        refusal::Refusal,
    },
    store::{Budget, StoreError, events},
};

enum Read {
    Loaded(Loaded),
    NoEvent,
    Torn,
}

impl Ledger {
    /// One attempt without a lock until it writes.
    pub(super) async fn attempt_optimistic(&self, command: &Command, how: &How) -> Result<Step, StoreError> {
        let loaded = match self.read_unlocked(command, how).await? {
            Read::Loaded(loaded) => loaded,
            Read::NoEvent => return Ok(Step::Refused(Refusal::EventNotFound)),
            Read::Torn => return Ok(Step::Stale),
        };
        let commit = match decide(&loaded.snapshot, command, loaded.now) {
            Err(refusal) => return Ok(Step::Refused(refusal)),
            Ok(Decision::Replay(change)) => return Ok(Step::Done { change, replayed: true }),
            Ok(Decision::Commit(commit)) => commit,
        };
        let budget = Budget { deadline: how.deadline, max_lock_wait: self.settings.max_lock_wait };
        let mut tx = self.pool.begin(command.operation(), budget).await?;
        let step = attempt::write(&mut tx, &loaded, command, commit).await;
        tx.finish(step, |step| matches!(step, Step::Done { replayed: false, .. })).await
    }

    /// What `command` would do now, without doing it.
    pub(super) async fn rehearse(&self, command: &Command, how: &How) -> Result<Step, StoreError> {
        Ok(match self.read_unlocked(command, how).await? {
            Read::NoEvent => Step::Refused(Refusal::EventNotFound),
            Read::Torn => Step::Stale,
            Read::Loaded(Loaded { snapshot, now }) => match decide(&snapshot, command, now) {
                Err(refusal) => Step::Refused(refusal),
                Ok(Decision::Replay(change)) => Step::Done { change, replayed: true },
                Ok(Decision::Commit(commit)) => {
                    Step::Done { change: Box::new(commit.answer().clone()), replayed: false }
                }
            },
        })
    }

    async fn read_unlocked(&self, command: &Command, how: &How) -> Result<Read, StoreError> {
        let mut conn = self.pool.lease(how.deadline).await?;
        let read = match events::get(&mut conn, &command.event_id).await? {
            None => Read::NoEvent,
            Some(event) => attempt::load(&mut conn, event, command).await?.map_or(Read::Torn, Read::Loaded),
        };
        conn.give_back();
        Ok(read)
    }
}
