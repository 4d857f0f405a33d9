//! Statements of the expiry worker, over the holds of all events.
//!
//! The index entry of an ended hold stays until PostgreSQL vacuums, and longer while a session keeps an old snapshot
//! open. So no statement here reads the index from its beginning, where millions of dead entries may lie: each begins
//! at a moment before which no live hold is left.

use sqlx::PgConnection;

use super::{StoreError, columns::Columns};
use crate::domain::{
    ids::{EventId, ReservationId},
    time::Timestamp,
};

/// A lapsed hold, and its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapsed {
    /// The event.
    pub event_id: EventId,
    /// The hold.
    pub reservation_id: ReservationId,
    /// When it lapsed.
    pub expire_time: Timestamp,
}

/// The lapsed holds that a run finds.
#[derive(Clone, Debug)]
pub struct Due {
    /// PostgreSQL's time.
    pub now: Timestamp,
    /// The holds that lapsed first, in expiry order.
    pub lapsed: Vec<Lapsed>,
    /// When the next hold lapses, of those that have not.
    pub next: Option<Timestamp>,
}

/// Finds up to `limit` holds that lapsed after `since`, over all events, without a lock.
pub async fn due(conn: &mut PgConnection, since: Timestamp, limit: u32) -> Result<Due, StoreError> {
    const SQL: &str = "-- holds::due
        SELECT now(), next.expire_time, l.event_id, l.reservation_id, l.expire_time
          FROM (SELECT (SELECT expire_time FROM reservations
                         WHERE state = 'HELD' AND expire_time > now() ORDER BY expire_time LIMIT 1)) AS next (expire_time)
          LEFT JOIN (SELECT event_id, reservation_id, expire_time FROM reservations
                      WHERE state = 'HELD' AND expire_time > $1 AND expire_time <= now()
                      ORDER BY expire_time LIMIT $2) l ON true
         ORDER BY l.expire_time";
    let rows = sqlx::query(SQL).bind(since).bind(i64::from(limit)).fetch_all(conn).await?;
    let mut due = Due { now: Timestamp::MIN, lapsed: Vec::with_capacity(rows.len()), next: None };
    for row in &rows {
        let mut columns = Columns::of(row);
        (due.now, due.next) = (columns.get()?, columns.get()?);
        if let Some(event_id) = columns.get()? {
            let (reservation_id, expire_time) = (columns.get()?, columns.get()?);
            due.lapsed.push(Lapsed { event_id, reservation_id, expire_time });
        }
    }
    Ok(due)
}

/// How many holds lapsed after `since` and are not released yet, counted up to `most`; and for how many seconds the
/// oldest of them is overdue.
pub async fn backlog(conn: &mut PgConnection, since: Timestamp, most: u32) -> Result<(i64, f64), StoreError> {
    const SQL: &str = "-- holds::backlog
        SELECT count(*), COALESCE(EXTRACT(epoch FROM now() - min(expire_time)), 0)::float8
          FROM (SELECT expire_time FROM reservations
                 WHERE state = 'HELD' AND expire_time > $1 AND expire_time <= now()
                 ORDER BY expire_time LIMIT $2) overdue";
    Ok(sqlx::query_as(SQL).bind(since).bind(i64::from(most)).fetch_one(conn).await?)
}
