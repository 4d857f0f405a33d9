//! Statements on the waitlist.

use std::time::Duration;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{
    StoreError,
    columns::{Columns, Table, is_unserved},
    page::{self, Page},
    tables::entry_columns,
    types::Count,
};
use crate::domain::{
    ids::{EventId, Target, UserId},
    limits,
    waitlist::{Entry, EntryState},
};

/// Reads the entries that these targets mean: for a user the one that waits, or else the newest.
pub async fn of_targets(conn: &mut PgConnection, targets: &[(&EventId, Target)]) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::of_targets\nSELECT ",
        entry_columns!(),
        " FROM unnest($1::text[], $2::uuid[], $3::text[]) AS q (event_id, entry_id, user_id)
          CROSS JOIN LATERAL (
              SELECT * FROM waitlist l WHERE l.event_id = q.event_id AND l.entry_id = q.entry_id
              UNION ALL
              (SELECT * FROM waitlist l WHERE l.event_id = q.event_id AND l.user_id = q.user_id
                ORDER BY l.state = 'WAITING' DESC, l.ticket DESC LIMIT 1)) w"
    );
    let event_ids: Vec<_> = targets.iter().map(|(event_id, _)| *event_id).collect();
    let entry_ids: Vec<_> = targets.iter().map(|(_, t)| if let Target::Id(id) = t { Some(id) } else { None }).collect();
    let user_ids: Vec<_> =
        targets.iter().map(|(_, t)| if let Target::User(id) = t { Some(id) } else { None }).collect();
    let rows = sqlx::query(SQL).bind(event_ids).bind(entry_ids).bind(user_ids).fetch_all(conn).await?;
    Ok(rows.iter().map(Entry::of).collect::<Result<_, _>>()?)
}

/// Reads the entries that wait for more units than `capacity`.
pub async fn larger_than(conn: &mut PgConnection, id: &EventId, capacity: u32) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::larger_than\nSELECT ",
        entry_columns!(),
        " FROM waitlist w WHERE w.event_id = $1 AND w.state = 'WAITING' AND w.min_quantity > $2"
    );
    let rows = sqlx::query(SQL).bind(id).bind(capacity.cast_signed()).fetch_all(conn).await?;
    Ok(rows.iter().map(Entry::of).collect::<Result<_, _>>()?)
}

/// Reads enough of an event's queue to tell which entries are offered up to `units` units: that many entries from its
/// head, since each gets at least one unit, and the one after them. Where parties that are too large may be passed
/// over, it also reads, of each size, as many entries as there are units for. An entry may come twice.
pub async fn head(conn: &mut PgConnection, id: &EventId, units: u32, may_skip: bool) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::head\n(SELECT ",
        entry_columns!(),
        " FROM waitlist w WHERE w.event_id = $1 AND w.state = 'WAITING' ORDER BY w.ticket LIMIT $2 + 1)
          UNION ALL
          SELECT ",
        entry_columns!(),
        " FROM generate_series(1, $3) AS of (size)
          CROSS JOIN LATERAL (
              SELECT * FROM waitlist l
               WHERE l.event_id = $1 AND l.state = 'WAITING' AND l.min_quantity = of.size
               ORDER BY l.ticket LIMIT $2 / of.size) w"
    );
    let sizes = if may_skip { units.min(*limits::QUANTITY.end()) } else { 0 };
    let rows = sqlx::query(SQL).bind(id).bind(i64::from(units)).bind(sizes.cast_signed()).fetch_all(conn).await?;
    Ok(rows.iter().map(Entry::of).collect::<Result<_, _>>()?)
}

/// Finds events where free units fit a waiting entry whose turn it is, without a lock.
pub async fn unserved(conn: &mut PgConnection, limit: u32) -> Result<Vec<EventId>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::unserved\nSELECT e.event_id FROM events e WHERE e.waiting > 0 AND ",
        is_unserved!(),
        " LIMIT $1"
    );
    Ok(sqlx::query_scalar(SQL).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// What is ahead of an entry in its waitlist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many entries: at most one more than [`limits::COUNTED_AHEAD`].
    pub parties: u32,
    /// How many units they want.
    pub units: u64,
}

impl Ahead {
    /// Whether more may be ahead than was counted.
    pub const fn is_lower_bound(self) -> bool {
        self.parties > limits::COUNTED_AHEAD
    }
}

/// Reads one entry, and while it waits, how much is ahead of it. The count stops where it is of no more use to a user,
/// so that it takes no longer in the longest queue.
pub async fn get(
    conn: &mut PgConnection,
    event_id: &EventId,
    target: &Target,
) -> Result<Option<(Entry, Ahead)>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::get\nSELECT ",
        entry_columns!(),
        ", ahead.parties, ahead.units
          FROM (SELECT * FROM waitlist l WHERE l.event_id = $1 AND l.entry_id = $2
                UNION ALL
                (SELECT * FROM waitlist l WHERE l.event_id = $1 AND l.user_id = $3
                  ORDER BY l.state = 'WAITING' DESC, l.ticket DESC LIMIT 1)) w
          CROSS JOIN LATERAL (
              SELECT count(*)::integer AS parties, COALESCE(sum(near.quantity), 0)::bigint AS units
                FROM (SELECT l.quantity FROM waitlist l
                       WHERE w.state = 'WAITING'
                         AND l.event_id = $1 AND l.state = 'WAITING' AND l.ticket < w.ticket
                       ORDER BY l.ticket DESC LIMIT $4 + 1) near) ahead"
    );
    let (entry_id, user_id) = match target {
        Target::Id(id) => (Some(id), None),
        Target::User(user) => (None, Some(user)),
    };
    let most = i64::from(limits::COUNTED_AHEAD);
    let row = sqlx::query(SQL).bind(event_id).bind(entry_id).bind(user_id).bind(most).fetch_optional(conn).await?;
    let read = |row| {
        let mut columns = Columns::of(&row);
        let (entry, Count(parties), units) = (Entry::read(&mut columns)?, columns.get()?, columns.get::<i64>()?);
        Ok::<_, sqlx::Error>((entry, Ahead { parties, units: units.unsigned_abs() }))
    };
    Ok(row.map(read).transpose()?)
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this event.
    pub event_id: Option<EventId>,
    /// Of this user.
    pub user_id: Option<UserId>,
    /// In one of these states; all if empty.
    pub states: Vec<EntryState>,
}

/// Where a page begins: after this event and ticket.
pub type Cursor = (EventId, i64);

/// Lists entries by event, then in the order in which they joined.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    size: u32,
) -> Result<Page<Entry>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!(
        "-- waitlist::list\nSELECT ",
        entry_columns!(),
        " FROM waitlist w WHERE true"
    ));
    if let Some(event_id) = &filter.event_id {
        sql.push(" AND w.event_id = ").push_bind(event_id);
    }
    if let Some(user_id) = &filter.user_id {
        sql.push(" AND w.user_id = ").push_bind(user_id);
    }
    match filter.states.as_slice() {
        [] => {}
        // Written as in the partial index, so that the planner uses it.
        [EntryState::Waiting] => _ = sql.push(" AND w.state = 'WAITING'"),
        states => _ = sql.push(" AND w.state = ANY(").push_bind(states.to_vec()).push(")"),
    }
    if let Some((event_id, ticket)) = after {
        sql.push(" AND (w.event_id, w.ticket) > (").push_bind(event_id).push(", ").push_bind(ticket).push(")");
    }
    sql.push(" ORDER BY w.event_id, w.ticket LIMIT ").push_bind(i64::from(size) + 1);
    page::read(sql.build().fetch(conn), size, Entry::of).await
}

/// How many of an event's entries were promoted.
pub async fn promoted(conn: &mut PgConnection, id: &EventId) -> Result<i64, StoreError> {
    const SQL: &str = "-- waitlist::promoted\nSELECT count(*) FROM waitlist WHERE event_id = $1 AND state = 'PROMOTED'";
    Ok(sqlx::query_scalar(SQL).bind(id).fetch_one(conn).await?)
}

/// How many entries wait, over all events.
pub async fn waiting(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- waitlist::waiting\nSELECT COALESCE(sum(waiting), 0) FROM events WHERE waiting > 0";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// Deletes up to `limit` entries that ended longer ago than `age`, and returns how many.
pub async fn prune(conn: &mut PgConnection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "-- waitlist::prune
        WITH old AS MATERIALIZED (
            SELECT event_id, entry_id FROM waitlist
             WHERE state <> 'WAITING' AND update_time < now() - make_interval(secs => $1)
             ORDER BY update_time LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        DELETE FROM waitlist w USING old WHERE w.event_id = old.event_id AND w.entry_id = old.entry_id";
    let done = sqlx::query(SQL).bind(age.as_secs_f64()).bind(i64::from(limit)).execute(conn).await?;
    Ok(done.rows_affected())
}
