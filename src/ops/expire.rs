//! Releases lapsed holds: what the sweeper does.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Ledger, OpError};
use crate::{
    domain::{
        caller::Caller,
        change::Change,
        command::{Action, Command},
        decide::{Commit, Decision, fold},
        ids::{EventId, ReservationId},
        snapshot::Snapshot,
        time::Timestamp,
    },
    store::{
        Budget, LockWait, StoreError, Tx,
        apply::{self, Decided},
        context::{self, Context},
        events, reservations,
    },
};

/// How long one sweep may take.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
/// How long to queue for an event whose row others keep locked.
const BUSY_EVENT_WAIT: Duration = Duration::from_secs(2);

type LapsedByEvent = BTreeMap<EventId, Vec<ReservationId>>;

impl Ledger {
    /// Releases up to `limit` holds that lapsed, those that lapsed first, and returns how many.
    ///
    /// Events that nobody else has locked go first, together, without waiting; then the busy ones, one
    /// by one, so that waiting for one never keeps another locked. Several servers may sweep at once:
    /// each hold is looked at again under its event's lock.
    pub async fn expire_lapsed(&self, limit: u32) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.detached(async move { Ok(ledger.sweep(limit).await?) }).await
    }

    async fn sweep(&self, limit: u32) -> Result<u32, StoreError> {
        let deadline = Instant::now() + SWEEP_LIMIT;
        let mut conn = self.pool.lease(deadline).await?;
        let found = reservations::lapsed(&mut conn, limit).await?;
        conn.give_back();
        if found.is_empty() {
            return Ok(0);
        }
        let mut lapsed = LapsedByEvent::new();
        for hold in found {
            lapsed.entry(hold.event_id).or_default().push(hold.reservation_id);
        }

        let budget = Budget { deadline, max_lock_wait: BUSY_EVENT_WAIT };
        let ids: Vec<_> = lapsed.keys().cloned().collect();
        let mut tx = self.pool.begin("expire", budget).await?;
        let free = events::lock_free_ones(&mut tx, &ids).await?;
        let busy: LapsedByEvent = lapsed.extract_if(.., |id, _| !free.contains(id)).collect();
        let mut released = self.release(tx, free, &lapsed).await?;

        for (id, holds) in busy {
            let mut tx = self.pool.begin("expire", budget).await?;
            match events::lock(&mut tx, &id, LockWait::Wait).await {
                Ok(true) => {
                    let holds = LapsedByEvent::from([(id.clone(), holds)]);
                    released += self.release(tx, vec![id], &holds).await?;
                }
                Ok(false) => tx.rollback().await,
                Err(StoreError::LockTimeout) => tx.rollback().await,
                Err(error) => return Err(error),
            }
        }
        Ok(released)
    }

    /// Releases the holds of the events that `tx` has locked, and ends it.
    async fn release(&self, mut tx: Tx, locked: Vec<EventId>, lapsed: &LapsedByEvent) -> Result<u32, StoreError> {
        let result = decide_all(&mut tx, locked, lapsed).await;
        let commits = tx.finish(result, |commits| !commits.is_empty()).await?;
        let expired = || commits.iter().flat_map(|commit| &commit.changes);
        for hold in expired().filter_map(Change::reservation) {
            let delay = hold.expire_time.map_or(Duration::ZERO, |end| hold.update_time.since(end));
            self.metrics.observe_expiry(delay);
        }
        Ok(u32::try_from(expired().count()).unwrap_or(u32::MAX))
    }
}

async fn decide_all(tx: &mut Tx, locked: Vec<EventId>, lapsed: &LapsedByEvent) -> Result<Vec<Commit>, StoreError> {
    let commands: Vec<Command> =
        locked.iter().flat_map(|id| lapsed.get(id).into_iter().flatten().map(|hold| expire(id, *hold))).collect();
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let context = context::load(tx, &commands.iter().collect::<Vec<_>>()).await?;
    let Some(Context { now, mut snapshots }) = context else { return Ok(Vec::new()) };

    let mut seen = Vec::new();
    for (id, snapshot) in &mut snapshots {
        let counters = snapshot.event.counters;
        let commits = fold_event(snapshot, id, &commands, now);
        if !commits.is_empty() {
            seen.push((id, counters, commits));
        }
    }
    let decided: Vec<_> = seen
        .iter()
        .map(|(event_id, seen, commits)| Decided { event_id, seen: *seen, commits: commits.iter().collect() })
        .collect();
    if decided.is_empty() || !apply::apply(tx, &decided).await? {
        return Ok(Vec::new());
    }
    Ok(seen.into_iter().flat_map(|(_, _, commits)| commits).collect())
}

/// The commits for one event; holds that are no longer lapsed holds are passed over.
fn fold_event(snapshot: &mut Snapshot, id: &EventId, commands: &[Command], now: Timestamp) -> Vec<Commit> {
    fold(snapshot, commands.iter().filter(|command| command.event_id == *id), now)
        .into_iter()
        .filter_map(|decision| match decision {
            Ok(Decision::Commit(commit)) => Some(commit),
            Ok(Decision::Replay(_)) | Err(_) => None,
        })
        .collect()
}

fn expire(event_id: &EventId, hold: ReservationId) -> Command {
    Command {
        event_id: event_id.clone(),
        action: Action::Expire(hold),
        etag: None,
        request: None,
        caller: Caller::default(),
    }
}
