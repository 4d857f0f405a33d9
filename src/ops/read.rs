//! Reads: each is one statement in one snapshot, without a lock. (Where a listing is empty, a second one tells whether
//! its event exists.)

use std::{collections::HashMap, time::Duration};

use futures::future::BoxFuture;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout_at};

use super::{Ledger, OpError, execute::Answer};
use crate::{
    domain::{
        audit::EventAudit,
        event::Event,
        ids::{EventId, Target},
        refusal::Refusal,
        reservation::Reservation,
        waitlist::Entry,
    },
    store::{
        Pool, StoreError, changes,
        events::{self, Availability},
        page::Page,
        reservations, waitlist,
    },
};

/// How long the database may take to answer a ping.
const PING_LIMIT: Duration = Duration::from_secs(2);

type Reading<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

impl Ledger {
    /// Runs a reading statement until the deadline at the latest: then its connection is closed, and PostgreSQL ends
    /// the statement with it.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        deadline: Instant,
        statement: impl for<'c> FnOnce(&'c mut PgConnection) -> Reading<'c, T> + Clone + Send + Sync + 'static,
    ) -> Result<T, OpError> {
        let (env, reads) = (self.env.clone(), self.reads.clone());
        let work = async move {
            let attempt = || read_once(reads.clone(), deadline, statement.clone());
            Ok(env.repeat_if_undone(deadline, attempt).await?)
        };
        self.env.spawn_tracked(work).await
    }

    /// Whether the database answers; sets the clock by it. None: no connection came free to ask on.
    pub async fn ping(&self) -> Option<bool> {
        match self.read(Instant::now() + PING_LIMIT, |conn| Box::pin(events::now(conn))).await {
            Ok(now) => {
                self.env.clock.set(now);
                Some(true)
            }
            Err(OpError::Busy(_)) => None,
            Err(_) => Some(false),
        }
    }

    /// A page of events, each with the units in its lapsed holds.
    pub async fn list_events(
        &self,
        filter: events::Filter,
        after: Option<events::Cursor>,
        size: u32,
        deadline: Instant,
    ) -> Result<Page<(Event, u32)>, OpError> {
        self.read(deadline, move |conn| {
            Box::pin(async move { events::list(conn, &filter, after.as_ref(), size).await })
        })
        .await
    }

    /// How many units of each event are free, for the events that exist, in the order of the request.
    pub async fn availability(&self, ids: Vec<EventId>, deadline: Instant) -> Result<Vec<Availability>, OpError> {
        let asked = ids.clone();
        let found =
            self.read(deadline, move |conn| Box::pin(async move { events::availability(conn, &asked).await })).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|one| (one.event.id.clone(), one)).collect();
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// The audit of an event: the sums of its rows.
    pub async fn audit(&self, id: EventId, deadline: Instant) -> Result<EventAudit, OpError> {
        let audit = self.read(deadline, move |conn| Box::pin(async move { events::audit(conn, &id).await })).await?;
        audit.ok_or(OpError::Refused(Refusal::EventNotFound))
    }

    /// One reservation.
    pub async fn reservation(
        &self,
        event_id: EventId,
        target: Target,
        deadline: Instant,
    ) -> Result<Reservation, OpError> {
        let found =
            self.read(deadline, move |conn| Box::pin(async move { reservations::get(conn, &event_id, &target).await }));
        found.await?.ok_or(OpError::Refused(Refusal::ReservationNotFound))
    }

    /// The reservation that a replay tells, as it is now: its first result may be long past. None: the answer is no
    /// replay, or not about a reservation, or the reservation is no longer kept.
    pub async fn current_reservation(
        &self,
        answer: &Answer,
        deadline: Instant,
    ) -> Result<Option<Reservation>, OpError> {
        let Some(told) = answer.change.reservation().filter(|_| answer.replayed) else { return Ok(None) };
        kept(self.reservation(told.event_id.clone(), Target::Id(told.id), deadline).await)
    }

    /// The same for a waitlist entry.
    pub async fn current_entry(&self, answer: &Answer, deadline: Instant) -> Result<Option<Entry>, OpError> {
        let Some(told) = answer.change.entry().filter(|_| answer.replayed) else { return Ok(None) };
        let found = self.waitlist_entry(told.event_id.clone(), Target::Id(told.id), deadline).await;
        kept(found.map(|(entry, _)| entry))
    }

    /// A page of reservations, each after the start of its event where the order is by that.
    pub async fn list_reservations(
        &self,
        filter: reservations::Filter,
        after: Option<reservations::Cursor>,
        size: u32,
        deadline: Instant,
    ) -> Result<Page<reservations::Listed>, OpError> {
        let page = self.read(deadline, move |conn| {
            Box::pin(async move {
                let page = reservations::list(conn, &filter, after.as_ref(), size).await?;
                let is_empty = page.rows.is_empty();
                of_event(conn, filter.event_id.as_ref(), page, is_empty).await
            })
        });
        page.await?.ok_or(OpError::Refused(Refusal::EventNotFound))
    }

    /// A page of the reservations that a search finds, the newest first.
    pub async fn search_reservations(
        &self,
        search: reservations::Search,
        after: Option<reservations::SearchCursor>,
        size: u32,
        deadline: Instant,
    ) -> Result<Page<Reservation>, OpError> {
        let page = self.read(deadline, move |conn| {
            Box::pin(async move {
                let page = reservations::search(conn, &search, after.as_ref(), size).await?;
                let is_empty = page.rows.is_empty();
                of_event(conn, search.event_id.as_ref(), page, is_empty).await
            })
        });
        page.await?.ok_or(OpError::Refused(Refusal::EventNotFound))
    }

    /// One waitlist entry, and how much is ahead of it.
    pub async fn waitlist_entry(
        &self,
        event_id: EventId,
        target: Target,
        deadline: Instant,
    ) -> Result<(Entry, waitlist::Ahead), OpError> {
        let found =
            self.read(deadline, move |conn| Box::pin(async move { waitlist::get(conn, &event_id, &target).await }));
        found.await?.ok_or(OpError::Refused(Refusal::EntryNotFound))
    }

    /// How many of an event's waitlist entries were promoted.
    pub(super) async fn count_promoted(&self, event_id: EventId, deadline: Instant) -> Result<i64, OpError> {
        self.read(deadline, move |conn| Box::pin(async move { waitlist::promoted(conn, &event_id).await })).await
    }

    /// A page of waitlist entries.
    pub async fn list_waitlist(
        &self,
        filter: waitlist::Filter,
        after: Option<waitlist::Cursor>,
        size: u32,
        deadline: Instant,
    ) -> Result<Page<Entry>, OpError> {
        let page = self.read(deadline, move |conn| {
            Box::pin(async move {
                let page = waitlist::list(conn, &filter, after.as_ref(), size).await?;
                let is_empty = page.rows.is_empty();
                of_event(conn, filter.event_id.as_ref(), page, is_empty).await
            })
        });
        page.await?.ok_or(OpError::Refused(Refusal::EventNotFound))
    }

    /// A page of an event's history, beyond the version `past`.
    pub async fn list_changes(
        &self,
        filter: changes::Filter,
        past: Option<i64>,
        size: u32,
        deadline: Instant,
    ) -> Result<changes::Listed, OpError> {
        let listed = self.read(deadline, move |conn| {
            Box::pin(async move {
                let listed = changes::list(conn, &filter, past, size).await?;
                let is_empty = listed.changes.is_empty();
                of_event(conn, Some(&filter.event_id), listed, is_empty).await
            })
        });
        listed.await?.ok_or(OpError::Refused(Refusal::EventNotFound))
    }
}

/// What a listing found, if there is the event that it is about. Only where it found nothing, that is open.
async fn of_event<T>(
    conn: &mut PgConnection,
    event_id: Option<&EventId>,
    found: T,
    is_empty: bool,
) -> Result<Option<T>, StoreError> {
    match event_id {
        Some(event_id) if is_empty => Ok(events::exists(conn, event_id).await?.then_some(found)),
        _ => Ok(Some(found)),
    }
}

/// What was found; none if it does not exist.
fn kept<T>(found: Result<T, OpError>) -> Result<Option<T>, OpError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(OpError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_once<T>(
    pool: Pool,
    deadline: Instant,
    statement: impl for<'c> FnOnce(&'c mut PgConnection) -> Reading<'c, T>,
) -> Result<T, StoreError> {
    let mut conn = pool.lease(deadline).await?;
    let result = timeout_at(deadline, statement(&mut conn)).await.map_err(|_| StoreError::Deadline)?;
    let result = result.map_err(|error| conn.judged(error));
    if result.as_ref().err().is_none_or(StoreError::spares_the_connection) {
        conn.give_back();
    }
    result
}
