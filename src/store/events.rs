//! Statements on events.

use sqlx::{PgConnection, Postgres, QueryBuilder, postgres::PgRow};

use super::{
    StoreError,
    columns::{Columns, Table, is_unserved},
    page::{self, Page},
    tables::{event_assignments, event_columns, rows},
    tx::LockWait,
    types::Count,
};
use crate::domain::{
    audit::EventAudit,
    change::Change,
    event::{Event, EventState},
    ids::{EventId, SeriesId, VenueId},
    time::Timestamp,
};

/// Locks one event's row until the transaction ends. False: there is no such event.
pub async fn lock(conn: &mut PgConnection, id: &EventId, wait: LockWait) -> Result<bool, StoreError> {
    const WAIT: &str = "-- events::lock\nSELECT FROM events WHERE event_id = $1 FOR UPDATE";
    const NO_WAIT: &str = "-- events::lock (nowait)\nSELECT FROM events WHERE event_id = $1 FOR UPDATE NOWAIT";
    let sql = match wait {
        LockWait::Wait => WAIT,
        LockWait::NoWait => NO_WAIT,
    };
    Ok(sqlx::query(sql).bind(id).fetch_optional(conn).await?.is_some())
}

/// Whether there is such an event.
pub async fn exists(conn: &mut PgConnection, id: &EventId) -> Result<bool, StoreError> {
    const SQL: &str =
        "-- events::exists\nSELECT EXISTS (SELECT FROM events WHERE event_id = $1 AND state <> 'DELETED')";
    Ok(sqlx::query_scalar(SQL).bind(id).fetch_one(conn).await?)
}

/// PostgreSQL's time now.
pub async fn now(conn: &mut PgConnection) -> Result<Timestamp, StoreError> {
    Ok(sqlx::query_scalar("-- events::now\nSELECT clock_timestamp()").fetch_one(conn).await?)
}

/// Inserts new events with the changes that create them, and returns the ids of those that did not exist. Waits for a
/// concurrent insert of the same id to be committed or undone.
pub async fn create(conn: &mut PgConnection, events: &[&Event]) -> Result<Vec<EventId>, StoreError> {
    const SQL: &str = "-- events::create
        INSERT INTO events SELECT w.* FROM unnest($1::event_row[]) AS w
            ON CONFLICT ON CONSTRAINT events_pkey DO NOTHING RETURNING event_id";
    let created = sqlx::query(SQL).bind(rows(events.iter().copied())).fetch_all(conn).await?;
    Ok(created.iter().map(|row| Columns::of(row).get()).collect::<Result<_, _>>()?)
}

/// Locks those of these events that were deleted, in id order, and returns the version of each.
pub async fn lock_deleted(conn: &mut PgConnection, ids: &[&EventId]) -> Result<Vec<(EventId, i64)>, StoreError> {
    const SQL: &str = "-- events::lock_deleted
        SELECT event_id, version FROM events WHERE event_id = ANY($1) AND state = 'DELETED'
         ORDER BY event_id FOR UPDATE";
    Ok(sqlx::query_as(SQL).bind(ids).fetch_all(conn).await?)
}

/// Writes new events in place of deleted ones that the same transaction has locked.
pub async fn replace_deleted(conn: &mut PgConnection, events: &[&Event]) -> Result<(), StoreError> {
    const SQL: &str = concat!(
        "-- events::replace_deleted\nUPDATE events AS e SET ",
        event_assignments!(),
        " FROM unnest($1::event_row[]) AS w WHERE e.event_id = w.event_id"
    );
    sqlx::query(SQL).bind(rows(events.iter().copied())).execute(conn).await?;
    Ok(())
}

/// Records changes of events that the same transaction has just inserted.
pub async fn record_creation(conn: &mut PgConnection, changes: &[Change]) -> Result<(), StoreError> {
    const SQL: &str = "-- events::record_creation\nINSERT INTO changes SELECT w.* FROM unnest($1::change_row[]) AS w";
    sqlx::query(SQL).bind(rows(changes)).execute(conn).await?;
    Ok(())
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this series.
    pub series_id: Option<SeriesId>,
    /// At this venue.
    pub venue_id: Option<VenueId>,
    /// In one of these states; if empty, in any but DELETED.
    pub states: Vec<EventState>,
    /// Starting at this moment or later.
    pub start_from: Option<Timestamp>,
    /// Starting before this moment.
    pub start_before: Option<Timestamp>,
}

/// Where a page begins: after this start time (none: after all that have one) and id.
pub type Cursor = (Option<Timestamp>, EventId);

/// Units in an event's holds that have lapsed and are not released yet.
macro_rules! lapsed_units {
    () => {
        "-- lapsed_units
         (SELECT COALESCE(sum(r.quantity), 0)::integer FROM reservations r
           WHERE r.event_id = e.event_id AND r.state = 'HELD' AND r.expire_time <= now())"
    };
}

/// Lists events by start time, those without one last, then id; each with the units in its lapsed holds.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    size: u32,
) -> Result<Page<(Event, u32)>, StoreError> {
    // Only the conditions that are asked for, so that the planner sees which index fits.
    let mut sql = QueryBuilder::<Postgres>::new(concat!(
        "-- events::list\nSELECT ",
        lapsed_units!(),
        ", ",
        event_columns!(),
        " FROM events e WHERE true"
    ));
    if let Some(series_id) = &filter.series_id {
        sql.push(" AND e.series_id = ").push_bind(series_id);
    }
    if let Some(venue_id) = &filter.venue_id {
        sql.push(" AND e.venue_id = ").push_bind(venue_id);
    }
    if filter.states.is_empty() {
        sql.push(" AND e.state <> 'DELETED'");
    } else {
        sql.push(" AND e.state = ANY(").push_bind(&filter.states).push(")");
    }
    if let Some(from) = filter.start_from {
        sql.push(" AND e.start_time IS NOT NULL AND COALESCE(e.start_time, 'infinity') >= ").push_bind(from);
    }
    if let Some(before) = filter.start_before {
        sql.push(" AND COALESCE(e.start_time, 'infinity') < ").push_bind(before);
    }
    if let Some((start, id)) = after {
        sql.push(" AND (COALESCE(e.start_time, 'infinity'), e.event_id) > (COALESCE(")
            .push_bind(*start)
            .push(", 'infinity'), ")
            .push_bind(id)
            .push(")");
    }
    sql.push(" ORDER BY COALESCE(e.start_time, 'infinity'), e.event_id LIMIT ").push_bind(i64::from(size) + 1);
    let read = |row: &PgRow| {
        let mut columns = Columns::of(row);
        let Count(lapsed) = columns.get()?;
        Ok((Event::read(&mut columns)?, lapsed))
    };
    page::read(sql.build().fetch(conn), size, read).await
}

/// The availability of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// The event.
    pub event: Event,
    /// Units in holds past their expire time that are still counted as held.
    pub lapsed: u32,
    /// When the next hold lapses, and how many units are in holds that lapse then.
    pub next_lapse: Option<(Timestamp, u32)>,
}

/// Reads how many units of each event are free, for the events that exist.
pub async fn availability(conn: &mut PgConnection, ids: &[EventId]) -> Result<Vec<Availability>, StoreError> {
    const SQL: &str = concat!(
        "-- events::availability\nSELECT ",
        lapsed_units!(),
        ", next.expire_time, next.units, ",
        event_columns!(),
        " FROM events e
          LEFT JOIN LATERAL (
              SELECT r.expire_time, sum(r.quantity)::integer AS units FROM reservations r
               WHERE r.event_id = e.event_id AND r.state = 'HELD' AND r.expire_time > now()
               GROUP BY r.expire_time ORDER BY r.expire_time LIMIT 1) next ON true
          WHERE e.event_id = ANY($1) AND e.state <> 'DELETED'"
    );
    let rows = sqlx::query(SQL).bind(ids).fetch_all(conn).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let (Count(lapsed), time) = (columns.get()?, columns.get::<Option<Timestamp>>()?);
        let next_lapse = time.zip(columns.get::<Option<Count>>()?.map(|units| units.0));
        Ok(Availability { event: Event::read(&mut columns)?, lapsed, next_lapse })
    };
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// Adds up an event's rows and changes in one snapshot. Just after booking has opened, free units count as unserved
/// only after a moment: no command marks that time, and the promotion worker needs to run first.
pub async fn audit(conn: &mut PgConnection, id: &EventId) -> Result<Option<EventAudit>, StoreError> {
    const SQL: &str = concat!(
        "-- events::audit
        SELECT e.state, e.capacity, e.held::bigint, e.confirmed::bigint, e.version,
               r.held_units, r.lapsed_units, r.confirmed_units, u.twice, c.newest, c.missing,
               e.waiting::bigint, l.waiting_rows, l.reserved,
               ",
        is_unserved!(),
        " AND COALESCE(e.booking_open_time < now() - interval '10 seconds', true)
          FROM events e
          CROSS JOIN LATERAL (
              SELECT COALESCE(sum(quantity) FILTER (WHERE state = 'HELD'), 0)::bigint AS held_units,
                     COALESCE(sum(quantity) FILTER (WHERE state = 'HELD' AND expire_time <= now()), 0)::bigint
                         AS lapsed_units,
                     COALESCE(sum(quantity) FILTER (WHERE state = 'CONFIRMED'), 0)::bigint AS confirmed_units
                FROM reservations WHERE event_id = e.event_id) r
          CROSS JOIN LATERAL (
              -- The event's rows first (OFFSET 0): where one event has most of all rows, the index that has them
              -- by user would be read whole for each of the others.
              SELECT count(*) AS twice FROM (
                  SELECT user_id FROM (
                      SELECT user_id FROM reservations
                       WHERE event_id = e.event_id AND state IN ('HELD', 'CONFIRMED') OFFSET 0) of_event
                   GROUP BY user_id HAVING count(*) > 1) of_user) u
          CROSS JOIN LATERAL (
              SELECT COALESCE(max(version), 0) AS newest,
                     COALESCE(max(version) - min(version) + 1 - count(*), 0)::bigint AS missing
                FROM changes WHERE event_id = e.event_id) c
          CROSS JOIN LATERAL (
              SELECT count(*) AS waiting_rows,
                     count(*) FILTER (WHERE EXISTS (
                         SELECT FROM reservations r
                          WHERE r.user_id = w.user_id AND r.event_id = w.event_id AND r.live)) AS reserved
                FROM waitlist w WHERE w.event_id = e.event_id AND w.state = 'WAITING') l
         WHERE e.event_id = $1 AND e.state <> 'DELETED'"
    );
    let Some(row) = sqlx::query(SQL).bind(id).fetch_optional(conn).await? else { return Ok(None) };
    let mut columns = Columns::of(&row);
    Ok(Some(EventAudit {
        state: columns.get()?,
        capacity: columns.get::<Count>()?.0,
        held: columns.get()?,
        confirmed: columns.get()?,
        version: columns.get()?,
        held_rows: columns.get()?,
        lapsed_rows: columns.get()?,
        confirmed_rows: columns.get()?,
        users_booked_twice: columns.get()?,
        newest_change: columns.get()?,
        missing_changes: columns.get()?,
        waiting: columns.get()?,
        waiting_rows: columns.get()?,
        waiting_though_reserved: columns.get()?,
        is_unserved: columns.get()?,
    }))
}
