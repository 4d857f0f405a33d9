//! The reads: each is one statement in one snapshot, without a lock.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Ledger, OpError};
use crate::{
    domain::{audit::Books, command::Target, event::Event, ids::EventId, refusal::Refusal, reservation::Reservation},
    store::{
        events::{self, Availability},
        reservations,
    },
};

/// How long the database may take to say that it is there.
const PING_LIMIT: Duration = Duration::from_secs(2);

impl Ledger {
    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), OpError> {
        let pool = self.pool.clone();
        let asked = self.detached(async move {
            let mut conn = pool.lease(Instant::now() + PING_LIMIT).await?;
            events::now(&mut conn).await?;
            conn.give_back();
            Ok(())
        });
        timeout(PING_LIMIT, asked).await.unwrap_or(Err(OpError::Deadline))
    }

    /// One event.
    pub async fn event(&self, id: EventId, deadline: Instant) -> Result<Event, OpError> {
        let pool = self.pool.clone();
        self.detached(async move {
            let mut conn = pool.lease(deadline).await?;
            let event = events::get(&mut conn, &id).await?;
            conn.give_back();
            event.ok_or(OpError::Refused(Refusal::EventNotFound))
        })
        .await
    }

    /// A page of events.
    pub async fn list_events(
        &self,
        filter: events::Filter,
        after: Option<events::Cursor>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<Event>, OpError> {
        let pool = self.pool.clone();
        self.detached(async move {
            let mut conn = pool.lease(deadline).await?;
            let page = events::list(&mut conn, &filter, after.as_ref(), limit).await?;
            conn.give_back();
            Ok(page)
        })
        .await
    }

    /// How much of each event is free, in the order asked, for those that exist.
    pub async fn availability(&self, ids: Vec<EventId>, deadline: Instant) -> Result<Vec<Availability>, OpError> {
        let pool = self.pool.clone();
        self.detached(async move {
            let mut conn = pool.lease(deadline).await?;
            let found = events::availability(&mut conn, &ids).await?;
            conn.give_back();
            let mut found: HashMap<_, _> = found.into_iter().map(|one| (one.event.id.clone(), one)).collect();
            Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
        })
        .await
    }

    /// What an event's rows add up to.
    pub async fn books(&self, id: EventId, deadline: Instant) -> Result<Books, OpError> {
        let pool = self.pool.clone();
        self.detached(async move {
            let mut conn = pool.lease(deadline).await?;
            let books = events::books(&mut conn, &id).await?;
            conn.give_back();
            books.ok_or(OpError::Refused(Refusal::EventNotFound))
        })
        .await
    }

    /// One reservation.
    pub async fn reservation(
        &self,
        event_id: EventId,
        target: Target,
        deadline: Instant,
    ) -> Result<Reservation, OpError> {
        let pool = self.pool.clone();
        self.detached(async move {
            let mut conn = pool.lease(deadline).await?;
            let reservation = reservations::get(&mut conn, &event_id, &target).await?;
            conn.give_back();
            reservation.ok_or(OpError::Refused(Refusal::ReservationNotFound))
        })
        .await
    }

    /// A page of reservations.
    pub async fn list_reservations(
        &self,
        filter: reservations::Filter,
        after: Option<reservations::Cursor>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<Reservation>, OpError> {
        let pool = self.pool.clone();
        self.detached(async move {
            let mut conn = pool.lease(deadline).await?;
            let page = reservations::list(&mut conn, &filter, after.as_ref(), limit).await?;
            conn.give_back();
            Ok(page)
        })
        .await
    }
}
