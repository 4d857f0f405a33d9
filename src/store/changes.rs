//! Statements on changes.

use std::time::Duration;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{
    StoreError,
    columns::{Columns, Table},
    page::{self, Page},
    tables::{change_columns, event_columns},
    types::Count,
};
use crate::domain::{
    change::{Change, ChangeKind},
    event::{Counters, Event, EventState},
    ids::{EventId, RequestId, ReservationId, UserId},
    time::Timestamp,
};

/// Reads the changes that these request_ids of these events stand for, if there are any.
pub async fn by_request(
    conn: &mut PgConnection,
    requests: &[(&EventId, &RequestId)],
) -> Result<Vec<Change>, StoreError> {
    const SQL: &str = concat!(
        "-- changes::by_request\nSELECT ",
        change_columns!(),
        " FROM unnest($1::text[], $2::text[]) AS q (event_id, request_id)
          JOIN changes c ON c.event_id = q.event_id AND c.request_id = q.request_id"
    );
    let (event_ids, request_ids): (Vec<_>, Vec<_>) = requests.iter().copied().unzip();
    let rows = sqlx::query(SQL).bind(event_ids).bind(request_ids).fetch_all(conn).await?;
    Ok(rows.iter().map(Change::of).collect::<Result<_, _>>()?)
}

/// Which changes to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Of this event.
    pub event_id: EventId,
    /// Of this reservation.
    pub reservation_id: Option<ReservationId>,
    /// Of this user's reservations.
    pub user_id: Option<UserId>,
    /// Of these kinds; all if empty.
    pub kinds: Vec<ChangeKind>,
    /// Made at this moment or later.
    pub from: Option<Timestamp>,
    /// Made before this moment.
    pub before: Option<Timestamp>,
    /// Newest first, else oldest first.
    pub newest_first: bool,
}

impl Filter {
    /// Whether it leaves out some of an event's changes.
    fn is_selective(&self) -> bool {
        let Self { event_id: _, reservation_id, user_id, kinds, from, before, newest_first: _ } = self;
        let by_subject = reservation_id.is_some() || user_id.is_some();
        by_subject || !kinds.is_empty() || from.is_some() || before.is_some()
    }
}

/// The most changes that are read for one page. An index by user or reservation would save reading, and cost every
/// Reserve; and few histories are longer.
const MAX_SCAN: i64 = 2_000;

/// Some changes of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The changes.
    pub changes: Vec<Change>,
    /// The version beyond which the next page begins, if there may be more. It may be further on than the last of these
    /// changes, of which there may be none.
    pub next: Option<i64>,
}

/// Lists changes in version order, beyond the version `past` if one is given. A page ends where it is full, or where
/// as many changes were read as may be for one page.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    past: Option<i64>,
    size: u32,
) -> Result<Listed, StoreError> {
    // Without a filter a page is full before that.
    let end = if filter.is_selective() { end_of_scan(conn, filter, past).await? } else { None };
    let page = read_page(conn, filter, past, end, size).await?;
    let next = page.last_before_more().map(|last| last.version).or(end);
    Ok(Listed { changes: page.rows, next })
}

/// The last version that is read for a page beyond the version `past`; None: all that are left. A history has no gap,
/// so the number of changes follows from their versions.
async fn end_of_scan(conn: &mut PgConnection, filter: &Filter, past: Option<i64>) -> Result<Option<i64>, StoreError> {
    const UP: &str = "-- changes::end_of_scan
        SELECT f.version + $3 - 1
          FROM (SELECT c.version FROM changes c WHERE c.event_id = $1 AND c.version > $2
                 ORDER BY c.version LIMIT 1) f
         WHERE EXISTS (SELECT FROM changes m WHERE m.event_id = $1 AND m.version >= f.version + $3)";
    const DOWN: &str = "-- changes::end_of_scan
        SELECT f.version - $3 + 1
          FROM (SELECT c.version FROM changes c WHERE c.event_id = $1 AND c.version < $2
                 ORDER BY c.version DESC LIMIT 1) f
         WHERE EXISTS (SELECT FROM changes m WHERE m.event_id = $1 AND m.version <= f.version - $3)";
    let (sql, past) = match filter.newest_first {
        false => (UP, past.unwrap_or(0)),
        true => (DOWN, past.unwrap_or(i64::MAX)),
    };
    Ok(sqlx::query_scalar(sql).bind(&filter.event_id).bind(past).bind(MAX_SCAN).fetch_optional(conn).await?)
}

/// Reads a page of the changes that come after the version `past`, up to the version `end`.
async fn read_page(
    conn: &mut PgConnection,
    filter: &Filter,
    past: Option<i64>,
    end: Option<i64>,
    size: u32,
) -> Result<Page<Change>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!(
        "-- changes::read_page\nSELECT ",
        change_columns!(),
        " FROM changes c WHERE c.event_id = "
    ));
    sql.push_bind(&filter.event_id);
    if let Some(id) = filter.reservation_id {
        sql.push(" AND c.reservation_id = ").push_bind(id);
    }
    if let Some(user_id) = &filter.user_id {
        sql.push(" AND c.user_id = ").push_bind(user_id);
    }
    if !filter.kinds.is_empty() {
        sql.push(" AND c.kind = ANY(").push_bind(&filter.kinds).push(")");
    }
    if let Some(from) = filter.from {
        sql.push(" AND c.change_time >= ").push_bind(from);
    }
    if let Some(before) = filter.before {
        sql.push(" AND c.change_time < ").push_bind(before);
    }
    let (beyond, within, order) = if filter.newest_first { (" < ", " >= ", "DESC") } else { (" > ", " <= ", "ASC") };
    if let Some(version) = past {
        sql.push(" AND c.version").push(beyond).push_bind(version);
    }
    if let Some(version) = end {
        sql.push(" AND c.version").push(within).push_bind(version);
    }
    sql.push(" ORDER BY c.version ").push(order).push(" LIMIT ").push_bind(i64::from(size) + 1);
    page::read(sql.build().fetch(conn), size, Change::of).await
}

/// The news of an event, read in one snapshot.
#[derive(Clone, Debug)]
pub struct News {
    /// The changes that followed, in version order: all of them, or as many as were asked for.
    pub changes: Vec<Change>,
    /// Whether the event takes reservations.
    pub state: EventState,
    /// Units in all.
    pub capacity: u32,
    /// The event's counters at its version, which may be beyond the last of the changes.
    pub counters: Counters,
    /// PostgreSQL's time.
    pub now: Timestamp,
}

/// Reads up to `limit` changes that followed `version`. None: there is no such event.
pub async fn after(
    conn: &mut PgConnection,
    event_id: &EventId,
    version: i64,
    limit: u32,
) -> Result<Option<News>, StoreError> {
    const SQL: &str = concat!(
        "-- changes::after\nSELECT e.state, e.capacity, e.held, e.confirmed, e.version, e.waiting, clock_timestamp(), ",
        change_columns!(),
        " FROM events e
          LEFT JOIN LATERAL (
              SELECT * FROM changes n WHERE n.event_id = $1 AND n.version > $2 ORDER BY n.version LIMIT $3) c ON true
         WHERE e.event_id = $1 ORDER BY c.version"
    );
    let rows = sqlx::query(SQL).bind(event_id).bind(version).bind(i64::from(limit)).fetch_all(conn).await?;
    let mut news: Option<News> = None;
    for row in &rows {
        let mut columns = Columns::of(row);
        let (state, Count(capacity)) = (columns.get()?, columns.get()?);
        let (Count(held), Count(confirmed)) = (columns.get()?, columns.get()?);
        let (version, Count(waiting)) = (columns.get()?, columns.get()?);
        let counters = Counters { held, confirmed, version, waiting };
        let now = columns.get()?;
        let news = news.get_or_insert_with(|| News {
            changes: Vec::with_capacity(rows.len()),
            state,
            capacity,
            counters,
            now,
        });
        news.changes.extend(columns.optional::<Change>()?);
    }
    Ok(news)
}

/// Which of these events have a newer version than the one seen.
pub async fn newer(conn: &mut PgConnection, seen: &[(EventId, i64)]) -> Result<Vec<EventId>, StoreError> {
    const SQL: &str = "-- changes::newer
        SELECT e.event_id FROM unnest($1::text[], $2::bigint[]) AS q (event_id, version)
          JOIN events e ON e.event_id = q.event_id AND e.version > q.version";
    let (event_ids, versions): (Vec<_>, Vec<_>) = seen.iter().map(|(id, version)| (id, *version)).unzip();
    Ok(sqlx::query_scalar(SQL).bind(event_ids).bind(versions).fetch_all(conn).await?)
}

/// The events that exist, each with the oldest version whose change is kept.
pub async fn kept(conn: &mut PgConnection, event_ids: &[EventId]) -> Result<Vec<(Event, i64)>, StoreError> {
    const SQL: &str = concat!(
        "-- changes::kept
        SELECT COALESCE((SELECT c.version FROM changes c WHERE c.event_id = e.event_id ORDER BY c.version LIMIT 1),
                        e.version + 1), ",
        event_columns!(),
        " FROM events e WHERE e.event_id = ANY($1)"
    );
    let rows = sqlx::query(SQL).bind(event_ids).fetch_all(conn).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let oldest = columns.get()?;
        Ok((Event::read(&mut columns)?, oldest))
    };
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// The most events that one step of retention looks at, and the most changes that it deletes of each.
const EVENTS_A_STEP: i64 = 64;
const CHANGES_OF_AN_EVENT: i64 = 256;

/// The result of a step of retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// How many changes it deleted.
    pub changes: u64,
    /// Where the next step goes on.
    pub next: NextStep,
}

/// Where retention goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// With the same events: they have more old changes.
    SameEvents,
    /// After this event.
    After(EventId),
    /// Nowhere: the round is over.
    RoundIsOver,
}

/// Deletes changes older than `age` of the events that come after `after` by their ids.
///
/// Of each event it deletes all changes up to one version: the rest of the history has no gap, even when two servers
/// delete at once or the clock was moved. An event's newest change stays, so that its history always tells its version.
/// With `has_outbox`, changes that were not delivered to the broker yet stay too.
pub async fn prune(
    conn: &mut PgConnection,
    age: Duration,
    after: Option<&EventId>,
    has_outbox: bool,
) -> Result<Pruned, StoreError> {
    const SQL: &str = "-- changes::prune
        WITH looked_at AS MATERIALIZED (
            SELECT event_id, version FROM events WHERE event_id > $1 ORDER BY event_id LIMIT $2
        ), begun AS MATERIALIZED (
            SELECT l.event_id, l.version FROM looked_at l
             WHERE (SELECT c.change_time FROM changes c WHERE c.event_id = l.event_id ORDER BY c.version LIMIT 1)
                   < now() - make_interval(secs => $4)
        ), old AS MATERIALIZED (
            SELECT b.event_id,
                   LEAST(max(c.version) FILTER (WHERE c.is_old),
                         min(c.version) FILTER (WHERE c.is_undelivered) - 1) AS version
              FROM begun b
             CROSS JOIN LATERAL (
                 SELECT f.version, f.change_time < now() - make_interval(secs => $4) AS is_old,
                        $5 AND f.txid >= (SELECT r.delivered_below FROM relay r) AS is_undelivered
                   FROM changes f
                  WHERE f.event_id = b.event_id AND f.version < b.version ORDER BY f.version LIMIT $3) c
             GROUP BY b.event_id
            HAVING bool_or(c.is_old)
        ), pruned AS (
            DELETE FROM changes c USING old WHERE c.event_id = old.event_id AND c.version <= old.version
            RETURNING c.event_id
        )
        SELECT (SELECT count(*) FROM pruned),
               EXISTS (SELECT FROM pruned GROUP BY event_id HAVING count(*) >= $3),
               (SELECT count(*) FROM looked_at) >= $2,
               (SELECT max(event_id) FROM looked_at)";
    let row = sqlx::query(SQL)
        .bind(after.map_or("", EventId::as_str))
        .bind(EVENTS_A_STEP)
        .bind(CHANGES_OF_AN_EVENT)
        .bind(age.as_secs_f64())
        .bind(has_outbox)
        .fetch_one(conn)
        .await?;
    let mut columns = Columns::of(&row);
    let changes: i64 = columns.get()?;
    let (has_more, has_next, last): (bool, bool, Option<EventId>) = (columns.get()?, columns.get()?, columns.get()?);
    let next = match last {
        _ if has_more => NextStep::SameEvents,
        Some(last) if has_next => NextStep::After(last),
        _ => NextStep::RoundIsOver,
    };
    Ok(Pruned { changes: changes.cast_unsigned(), next })
}
