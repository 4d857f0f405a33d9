//! Releases lapsed holds: what the sweeper does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Ledger, OpError, line};
use crate::{
    domain::{
        caller::Caller,
        change::{Change, ChangeKind},
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
        events,
        holds::{self, Due},
        turns::{self, Turn},
        waitlist,
    },
};

/// How long one sweep may take.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
/// How long to queue for an event whose row others keep locked.
const BUSY_EVENT_WAIT: Duration = Duration::from_secs(2);

/// How long before a moment a hold that lapses then may still be committed: nearly always. Those that
/// take longer are found when everything is looked at.
const LATEST_COMMIT: Duration = Duration::from_secs(120);
/// How often everything is looked at, and not only what has lapsed lately.
const FULL_LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// The most overdue holds that are counted.
const MOST_COUNTED: u32 = 100_000;

type LapsedByEvent = BTreeMap<EventId, Vec<ReservationId>>;

/// What the sweeper knows of what it has done.
#[derive(Debug, Default)]
pub(super) struct Swept(Mutex<Option<Past>>);

#[derive(Clone, Copy, Debug)]
struct Past {
    /// No hold that lapsed before this is left.
    until: Timestamp,
    /// Till when that is believed.
    good_till: Instant,
}

impl Swept {
    /// The moment from which on lapsed holds are to be looked for.
    fn until(&self, now: Instant) -> Timestamp {
        let known = *self.lock();
        known.filter(|past| now < past.good_till).map_or(Timestamp::MIN, |past| past.until)
    }

    /// Takes note of what was found by looking from `since` on.
    fn note(&self, since: Timestamp, due: &Due, now: Instant) {
        let until = due.lapsed.first().map_or(due.now, |first| first.expire_time).before(LATEST_COMMIT);
        let mut known = self.lock();
        let good_till = match *known {
            Some(past) if since > Timestamp::MIN => past.good_till,
            _ => now + FULL_LOOK_INTERVAL,
        };
        *known = Some(Past { until, good_till });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Past>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sweep leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As much as it may do at once was there: there may be more.
    More,
    /// Nothing that has lapsed; the next hold does so after this long, if there is one.
    Nothing(Option<Duration>),
}

impl Ledger {
    /// Releases up to `limit` holds that lapsed, those that lapsed first.
    ///
    /// Events that nobody else has locked go first, together, without waiting; then the busy ones, one
    /// by one, so that waiting for one never keeps another locked. Several servers may sweep at once:
    /// each hold is looked at again under its event's lock.
    pub async fn expire_lapsed(&self, limit: u32) -> Result<Left, OpError> {
        let ledger = self.clone();
        self.detached(async move { Ok(ledger.sweep(limit).await?) }).await
    }

    async fn sweep(&self, limit: u32) -> Result<Left, StoreError> {
        let deadline = Instant::now() + SWEEP_LIMIT;
        let mut conn = self.pool.lease(deadline).await?;
        let since = self.swept.until(Instant::now());
        let due = holds::due(&mut conn, since, limit).await?;
        conn.give_back();
        self.swept.note(since, &due, Instant::now());
        let left = match due.next {
            _ if due.lapsed.len() >= limit as usize => Left::More,
            next => Left::Nothing(next.map(|next| next.since(due.now))),
        };
        let mut lapsed = LapsedByEvent::new();
        for hold in due.lapsed {
            lapsed.entry(hold.event_id).or_default().push(hold.reservation_id);
        }
        if lapsed.is_empty() {
            return Ok(left);
        }

        let budget = Budget { deadline, max_lock_wait: BUSY_EVENT_WAIT };
        let ids: Vec<_> = lapsed.keys().cloned().collect();
        let mut tx = self.pool.begin("expire", budget).await?;
        if !turns::take(&mut tx, Turn::Sweep).await? {
            tx.rollback().await;
            return Ok(Left::Nothing(None));
        }
        let free = events::lock_free_ones(&mut tx, &ids).await?;
        let busy: LapsedByEvent = lapsed.extract_if(.., |id, _| !free.contains(id)).collect();
        self.release(tx, free, &lapsed).await?;

        for (id, holds) in busy {
            let mut tx = self.pool.begin("expire", budget).await?;
            match events::lock(&mut tx, &id, LockWait::Wait).await {
                Ok(true) => self.release(tx, vec![id.clone()], &LapsedByEvent::from([(id, holds)])).await?,
                Ok(false) | Err(StoreError::LockTimeout) => tx.rollback().await,
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    /// Brings the gauges of expiry up to date.
    pub async fn refresh_gauges(&self) -> Result<(), OpError> {
        let (limit, since) = (Instant::now() + SWEEP_LIMIT, self.swept.until(Instant::now()));
        let backlog = self.read(limit, move |conn| Box::pin(holds::backlog(conn, since, MOST_COUNTED)));
        let (overdue, lag) = backlog.await?;
        self.metrics.expiry_backlog.set(overdue);
        self.metrics.expiry_lag_seconds.set(lag);
        let waiting = self.read(limit, |conn| Box::pin(waitlist::waiting(conn))).await?;
        self.metrics.waitlist_waiting.set(waiting);
        Ok(())
    }

    /// Releases the holds of the events that `tx` has locked, serves those who wait for them, and ends it.
    async fn release(&self, mut tx: Tx, locked: Vec<EventId>, lapsed: &LapsedByEvent) -> Result<(), StoreError> {
        let result = decide_all(&mut tx, locked, lapsed).await;
        let commits = tx.finish(result, |commits| !commits.is_empty()).await?;
        for event_id in commits.iter().map(|commit| commit.answer().event_id()).collect::<BTreeSet<_>>() {
            self.feed.note(event_id);
        }
        let changes = commits.iter().flat_map(|commit| &commit.changes);
        let expired = changes.filter(|change| change.kind == ChangeKind::Expired);
        for hold in expired.filter_map(Change::reservation) {
            let delay = hold.expire_time.map_or(Duration::ZERO, |end| hold.update_time.since(end));
            self.metrics.observe_expiry(delay);
        }
        Ok(())
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
        let mut commits = fold_event(snapshot, id, &commands, now);
        if !commits.is_empty() {
            commits.extend(line::serve(tx, snapshot, now).await?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::holds::Lapsed;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).expect("a time")
    }

    fn due(now: i64, lapsed: &[i64]) -> Due {
        let hold = |expires: &i64| Lapsed {
            event_id: EventId::parse("e").expect("an id"),
            reservation_id: ReservationId(uuid::Uuid::nil()),
            expire_time: at(*expires),
        };
        Due { now: at(now), lapsed: lapsed.iter().map(hold).collect(), next: None }
    }

    #[test]
    fn the_past_is_skipped_but_for_what_may_be_left_of_it() {
        let (swept, start) = (Swept::default(), Instant::now());
        assert_eq!(swept.until(start), Timestamp::MIN, "at first everything is looked at");
        swept.note(Timestamp::MIN, &due(1000, &[]), start);
        assert_eq!(swept.until(start), at(880), "a hold may be committed after its time");
        swept.note(at(880), &due(2000, &[1500, 1600]), start);
        assert_eq!(swept.until(start), at(1380), "what was found may not have been released");
        swept.note(at(1380), &due(3000, &[]), start + FULL_LOOK_INTERVAL / 2);
        assert_eq!(swept.until(start + FULL_LOOK_INTERVAL / 2), at(2880));
        assert_eq!(swept.until(start + FULL_LOOK_INTERVAL), Timestamp::MIN, "now and then everything is looked at");
    }
}
