//! Expiry: releases lapsed holds.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Ledger, OpError, execute::execute_own};
use crate::{
    domain::{
        caller::Caller,
        change::ChangeKind,
        command::{Action, Command},
        time::Timestamp,
    },
    store::{
        holds::{self, Due, Lapsed},
        waitlist,
        worker_locks::{self, Work},
    },
};

/// How long one run may take.
const RUN_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait for the row lock of an event that others keep locked.
const CONTENDED_EVENT_WAIT: Duration = Duration::from_secs(2);

/// How long after its expire time a hold may still be committed, in nearly all cases. A run looks back this far; the
/// next full look finds holds that were committed even later.
const LATEST_COMMIT: Duration = Duration::from_secs(120);
/// How often a run looks at all lapsed holds, and not only at those that lapsed lately.
const FULL_LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// The most overdue holds that are counted.
const MOST_COUNTED: u32 = 100_000;

/// The moment before which no lapsed hold is left, as far as this server knows.
#[derive(Debug, Default)]
pub(super) struct ExpiryWatermark(Mutex<Option<Watermark>>);

#[derive(Clone, Copy, Debug)]
struct Watermark {
    /// Every hold that lapsed before this is released.
    until: Timestamp,
    /// Until when that is trusted.
    good_till: Instant,
}

impl ExpiryWatermark {
    /// The moment from which on to look for lapsed holds.
    fn until(&self, now: Instant) -> Timestamp {
        let known = *self.0.lock();
        known.filter(|past| now < past.good_till).map_or(Timestamp::MIN, |past| past.until)
    }

    /// Records the holds that were found from `since` on.
    fn note(&self, since: Timestamp, due: &Due, now: Instant) {
        let until = due.lapsed.first().map_or(due.now, |first| first.expire_time).before(LATEST_COMMIT);
        let mut known = self.0.lock();
        let good_till = match *known {
            Some(past) if since > Timestamp::MIN => past.good_till,
            _ => now + FULL_LOOK_INTERVAL,
        };
        *known = Some(Watermark { until, good_till });
    }
}

/// What is left after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The run reached its limit: more lapsed holds may be left.
    More,
    /// No lapsed hold is left. The next hold lapses after this long, if there is one.
    Nothing(Option<Duration>),
}

impl Ledger {
    /// Releases up to `limit` lapsed holds, oldest first, unless another server does so now.
    pub async fn expire_lapsed(&self, limit: u32) -> Result<Left, OpError> {
        let ledger = self.clone();
        self.env.spawn_tracked(async move { ledger.expire(limit).await }).await
    }

    async fn expire(&self, limit: u32) -> Result<Left, OpError> {
        let deadline = Instant::now() + RUN_LIMIT;
        // If a step fails, the lock ends with this connection.
        let mut conn = self.env.database.lease(deadline).await?;
        let since = self.watermark.until(Instant::now());
        let due = holds::due(&mut conn, since, limit).await?;
        self.watermark.note(since, &due, Instant::now());
        let left = match due.next {
            _ if due.lapsed.len() >= limit as usize => Left::More,
            next => Left::Nothing(next.map(|next| next.since(due.now))),
        };
        if due.lapsed.is_empty() {
            conn.give_back();
            return Ok(left);
        }
        if !worker_locks::try_lock(&mut conn, Work::Expiry).await? {
            conn.give_back();
            return Ok(Left::Nothing(None));
        }
        let commands = due.lapsed.into_iter().map(expire).collect();
        let released = execute_own(&self.env, commands, deadline, CONTENDED_EVENT_WAIT).await;
        worker_locks::unlock(&mut conn, Work::Expiry).await?;
        conn.give_back();
        for change in released? {
            if let (ChangeKind::ReservationExpired, Some(hold)) = (change.kind, change.reservation()) {
                let delay = hold.expire_time.map_or(Duration::ZERO, |end| hold.update_time.since(end));
                self.env.metrics.observe_expiry(delay);
            }
        }
        Ok(left)
    }

    /// Refreshes the gauges of expiry.
    pub async fn refresh_gauges(&self) -> Result<(), OpError> {
        let (limit, since) = (Instant::now() + RUN_LIMIT, self.watermark.until(Instant::now()));
        let backlog = self.read(limit, move |conn| Box::pin(holds::backlog(conn, since, MOST_COUNTED)));
        let (overdue, lag) = backlog.await?;
        self.env.metrics.expiry_backlog.set(overdue);
        self.env.metrics.expiry_lag_seconds.set(lag);
        let waiting = self.read(limit, |conn| Box::pin(waitlist::waiting(conn))).await?;
        self.env.metrics.waitlist_waiting.set(waiting);
        Ok(())
    }
}

fn expire(hold: Lapsed) -> Command {
    let action = Action::Expire(hold.reservation_id);
    Command {
        event_id: hold.event_id,
        action,
        etag: None,
        expected_event_version: None,
        request: None,
        caller: Caller::default(),
    }
}

#[cfg(test)]
mod tests;
