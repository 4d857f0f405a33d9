//! Statements on reservations.

use std::time::Duration;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{
    StoreError,
    columns::Columns,
    page::{self, Page},
};
use crate::{
    domain::{
        caller::Actor,
        command::Target,
        event::Event,
        ids::{EventId, ReservationId, UserId},
        reservation::{Reservation, State},
        time::Timestamp,
    },
    reservation_columns,
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
    Ok(row.map(|row| Columns::of(&row).reservation()).transpose()?)
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
}

/// Where a page begins: after this reservation.
pub type Cursor = (EventId, ReservationId);

/// Lists reservations by event, then age.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    size: u32,
) -> Result<Page<Reservation>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!(
        "-- reservations::list\nSELECT ",
        reservation_columns!(),
        " FROM reservations r WHERE true"
    ));
    if let Some(event_id) = &filter.event_id {
        sql.push(" AND r.event_id = ").push_bind(event_id);
    }
    if let Some(user_id) = &filter.user_id {
        sql.push(" AND r.user_id = ").push_bind(user_id);
    }
    if !filter.states.is_empty() {
        sql.push(" AND r.state = ANY(").push_bind(&filter.states).push(")");
    }
    if let Some((event_id, id)) = after {
        sql.push(" AND (r.event_id, r.reservation_id) > (").push_bind(event_id).push(", ").push_bind(id).push(")");
    }
    sql.push(" ORDER BY r.event_id, r.reservation_id LIMIT ").push_bind(i64::from(size) + 1);
    page::read(sql.build().fetch(conn), size, |row| Columns::of(row).reservation()).await
}

/// How many reservations ended with their event.
pub struct Ended {
    /// All of them: each is one change.
    pub changes: u32,
    /// Those that were cancelled; the others were lapsed holds, and expired.
    pub cancelled: u32,
}

/// Ends every live reservation of an event in one statement, by `actor`, with a change each, at the versions
/// after the event's. The caller holds the event's lock.
pub async fn end_all(
    conn: &mut PgConnection,
    event: &Event,
    reason: Option<&str>,
    actor: Option<&Actor>,
    now: Timestamp,
) -> Result<Ended, StoreError> {
    // The target's state is tested again where it is updated: a condition that only the subquery
    // tested would not be looked at once more after a wait for the row.
    const SQL: &str = "-- reservations::end_all
        WITH live AS (
            SELECT reservation_id, $2 + row_number() OVER (ORDER BY reservation_id) AS version
              FROM reservations WHERE event_id = $1 AND state IN ('HELD', 'CONFIRMED')
        ), ended AS (
            UPDATE reservations r
               SET state = CASE WHEN r.state = 'HELD' AND r.expire_time <= $3 THEN 'EXPIRED' ELSE 'CANCELLED' END,
                   expire_time = CASE WHEN r.state = 'HELD' AND r.expire_time <= $3 THEN r.expire_time END,
                   cancel_reason = CASE WHEN r.state = 'HELD' AND r.expire_time <= $3 THEN r.cancel_reason
                                        ELSE COALESCE($4, r.cancel_reason) END,
                   version = live.version, update_time = $3
              FROM live
             WHERE r.event_id = $1 AND r.reservation_id = live.reservation_id AND r.state IN ('HELD', 'CONFIRMED')
            RETURNING r.*
        ), written AS (
            INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, quantity, state,
                                 expire_time, confirm_time, extensions, cancel_reason, labels, create_time, actor)
            SELECT event_id, version, state, $3, reservation_id, user_id, quantity, state,
                   expire_time, confirm_time, extensions, cancel_reason, labels, create_time,
                   CASE WHEN state = 'CANCELLED' THEN $5 END
              FROM ended
        )
        SELECT count(*)::integer, (count(*) FILTER (WHERE state = 'CANCELLED'))::integer FROM ended";
    let query = sqlx::query(SQL).bind(&event.id).bind(event.counters.version).bind(now).bind(reason).bind(actor);
    let row = query.fetch_one(conn).await?;
    let mut columns = Columns::of(&row);
    Ok(Ended { changes: columns.count()?, cancelled: columns.count()? })
}

/// Deletes up to `limit` reservations that ended longer than `age` ago, the oldest first, and returns how
/// many. Live ones stay, however old.
pub async fn forget(conn: &mut PgConnection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "-- reservations::forget
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

/// How many live holds a user has over all events; not counted on beyond `most`.
pub async fn live_holds(conn: &mut PgConnection, user: &UserId, most: u32) -> Result<i64, StoreError> {
    const SQL: &str = "-- reservations::live_holds
        SELECT count(*) FROM (
            SELECT FROM reservations
             WHERE user_id = $1 AND live AND state = 'HELD' AND expire_time > clock_timestamp() LIMIT $2) held";
    Ok(sqlx::query_scalar(SQL).bind(user).bind(i64::from(most)).fetch_one(conn).await?)
}
