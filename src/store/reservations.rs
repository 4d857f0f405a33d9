//! Statements on reservations.

use std::time::Duration;

use sqlx::{PgConnection, Postgres, QueryBuilder, postgres::PgRow, types::Json};

use super::{
    StoreError,
    columns::{Columns, Table},
    page::{self, Page},
    tables::reservation_columns,
};
use crate::domain::{
    ids::{EventId, ReservationId, Target, UserId},
    limits::Labels,
    reservation::{Reservation, State},
    time::Timestamp,
};

/// Reads one reservation.
pub async fn get(
    conn: &mut PgConnection,
    event_id: &EventId,
    target: &Target,
) -> Result<Option<Reservation>, StoreError> {
    const BY_ID: &str = concat!(
        "-- reservations::get (by id)\nSELECT ",
        reservation_columns!(),
        " FROM reservations r WHERE r.event_id = $1 AND r.reservation_id = $2"
    );
    const BY_USER: &str = concat!(
        "-- reservations::get (by user)\nSELECT ",
        reservation_columns!(),
        " FROM reservations r WHERE r.event_id = $1 AND r.user_id = $2
          ORDER BY r.live NULLS LAST, r.reservation_id DESC LIMIT 1"
    );
    let row = match target {
        Target::Id(id) => sqlx::query(BY_ID).bind(event_id).bind(id).fetch_optional(conn).await?,
        Target::User(user) => sqlx::query(BY_USER).bind(event_id).bind(user).fetch_optional(conn).await?,
    };
    Ok(row.map(|row| Reservation::of(&row)).transpose()?)
}

/// Which reservations to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this event.
    pub event_id: Option<EventId>,
    /// Of this user.
    pub user_id: Option<UserId>,
    /// In one of these states; all if empty.
    pub states: Vec<State>,
    /// In this order.
    pub order: Order,
}

/// The order of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By event, then age.
    #[default]
    Event,
    /// By the start of their events, those without one last.
    Start,
    /// The same, the latest first, those without one last.
    LatestStart,
    /// By age, the newest first.
    Newest,
}

impl Order {
    const fn is_by_start(self) -> bool {
        matches!(self, Self::Start | Self::LatestStart)
    }

    const fn columns(self) -> &'static str {
        match self {
            Self::Event => "r.event_id, r.reservation_id",
            Self::Start => "COALESCE(e.start_time, 'infinity'), r.event_id, r.reservation_id",
            Self::LatestStart => "COALESCE(e.start_time, '-infinity') DESC, r.event_id DESC, r.reservation_id DESC",
            Self::Newest => "r.reservation_id DESC, r.event_id DESC",
        }
    }
}

/// Where a page begins: after this reservation, of an event with this start where the order is by that.
pub type Cursor = (Option<Timestamp>, EventId, ReservationId);

/// A reservation of a listing, after the start of its event where the order is by that.
pub type Listed = (Option<Timestamp>, Reservation);

/// Lists reservations. Those of one user are found by an index and sorted, in whichever order.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    size: u32,
) -> Result<Page<Listed>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new("-- reservations::list\nSELECT ");
    sql.push(if filter.order.is_by_start() { "e.start_time, " } else { "NULL::timestamptz, " });
    sql.push(concat!(reservation_columns!(), " FROM reservations r"));
    if filter.order.is_by_start() {
        sql.push(" JOIN events e ON e.event_id = r.event_id");
    }
    sql.push(" WHERE true");
    if let Some(event_id) = &filter.event_id {
        sql.push(" AND r.event_id = ").push_bind(event_id);
    }
    if let Some(user_id) = &filter.user_id {
        sql.push(" AND r.user_id = ").push_bind(user_id);
    }
    if !filter.states.is_empty() {
        sql.push(" AND r.state = ANY(").push_bind(&filter.states).push(")");
    }
    if let Some(after) = after {
        push_cursor(&mut sql, filter.order, after);
    }
    sql.push(" ORDER BY ").push(filter.order.columns()).push(" LIMIT ").push_bind(i64::from(size) + 1);
    let read = |row: &PgRow| {
        let mut columns = Columns::of(row);
        Ok((columns.get()?, Reservation::read(&mut columns)?))
    };
    page::read(sql.build().fetch(conn), size, read).await
}

/// The condition that a row comes after `cursor`.
fn push_cursor(sql: &mut QueryBuilder<Postgres>, order: Order, (start, event_id, id): &Cursor) {
    let values = match order {
        Order::Event => {
            sql.push(" AND (r.event_id, r.reservation_id) > (").push_bind(event_id).push(", ").push_bind(id)
        }
        Order::Newest => {
            sql.push(" AND (r.reservation_id, r.event_id) < (").push_bind(id).push(", ").push_bind(event_id)
        }
        Order::Start => sql
            .push(" AND (COALESCE(e.start_time, 'infinity'), r.event_id, r.reservation_id) > (COALESCE(")
            .push_bind(*start)
            .push(", 'infinity'), ")
            .push_bind(event_id)
            .push(", ")
            .push_bind(id),
        Order::LatestStart => sql
            .push(" AND (COALESCE(e.start_time, '-infinity'), r.event_id, r.reservation_id) < (COALESCE(")
            .push_bind(*start)
            .push(", '-infinity'), ")
            .push_bind(event_id)
            .push(", ")
            .push_bind(id),
    };
    values.push(")");
}

/// What to search for; all of it must fit.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Of this event.
    pub event_id: Option<EventId>,
    /// Of users whose id begins with this.
    pub user_id_prefix: Option<String>,
    /// With this label.
    pub label: Option<Labels>,
    /// In one of these states; all if empty.
    pub states: Vec<State>,
    /// Created at this moment or later.
    pub from: Option<Timestamp>,
    /// Created before this moment.
    pub before: Option<Timestamp>,
}

/// Where a page of a search begins: after this reservation.
pub type SearchCursor = (ReservationId, EventId);

/// Finds reservations, the newest first.
pub async fn search(
    conn: &mut PgConnection,
    search: &Search,
    after: Option<&SearchCursor>,
    size: u32,
) -> Result<Page<Reservation>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!(
        "-- reservations::search\nSELECT ",
        reservation_columns!(),
        " FROM reservations r WHERE true"
    ));
    if let Some(event_id) = &search.event_id {
        sql.push(" AND r.event_id = ").push_bind(event_id);
    }
    if let Some(prefix) = &search.user_id_prefix {
        // A range, which the index has: no character of a user_id is greater than '~'.
        sql.push(" AND r.user_id >= ").push_bind(prefix).push(" AND r.user_id < ").push_bind(format!("{prefix}\x7f"));
    }
    if let Some(label) = &search.label {
        sql.push(" AND r.labels @> ").push_bind(Json(label));
    }
    if !search.states.is_empty() {
        sql.push(" AND r.state = ANY(").push_bind(&search.states).push(")");
    }
    if let Some(from) = search.from {
        sql.push(" AND r.create_time >= ").push_bind(from);
    }
    if let Some(before) = search.before {
        sql.push(" AND r.create_time < ").push_bind(before);
    }
    if let Some((id, event_id)) = after {
        sql.push(" AND (r.reservation_id, r.event_id) < (").push_bind(id).push(", ").push_bind(event_id).push(")");
    }
    sql.push(" ORDER BY r.reservation_id DESC, r.event_id DESC LIMIT ").push_bind(i64::from(size) + 1);
    page::read(sql.build().fetch(conn), size, Reservation::of).await
}

/// Deletes up to `limit` reservations that ended longer than `age` ago, the oldest first, and returns how
/// many. Live ones stay, however old.
pub async fn prune(conn: &mut PgConnection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "-- reservations::prune
        WITH old AS MATERIALIZED (
            SELECT event_id, reservation_id FROM reservations
             WHERE state IN ('CANCELLED', 'EXPIRED') AND update_time < now() - make_interval(secs => $1)
             ORDER BY update_time LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        DELETE FROM reservations r USING old
         WHERE r.event_id = old.event_id AND r.reservation_id = old.reservation_id
           AND r.state IN ('CANCELLED', 'EXPIRED')";
    let done = sqlx::query(SQL).bind(age.as_secs_f64()).bind(i64::from(limit)).execute(conn).await?;
    Ok(done.rows_affected())
}

/// How many live holds a user has over all events, counted up to `most`.
pub async fn live_holds(conn: &mut PgConnection, user: &UserId, most: u32) -> Result<i64, StoreError> {
    const SQL: &str = "-- reservations::live_holds
        SELECT count(*) FROM (
            SELECT FROM reservations
             WHERE user_id = $1 AND live AND state = 'HELD' AND expire_time > clock_timestamp() LIMIT $2) held";
    Ok(sqlx::query_scalar(SQL).bind(user).bind(i64::from(most)).fetch_one(conn).await?)
}
