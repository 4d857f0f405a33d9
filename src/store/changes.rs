//! Statements on changes.

use std::time::Duration;

use sqlx::PgConnection;

use super::{StoreError, columns::Columns};
use crate::{
    change_columns,
    domain::{
        change::Change,
        ids::{EventId, RequestId},
    },
};

/// Reads the changes that these requests of these events stand for, as far as there are any.
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
    Ok(rows.iter().map(|row| Columns::of(row).change()).collect::<Result<_, _>>()?)
}

/// Deletes up to `limit` changes older than `age`, the oldest first, so that what is kept of a history
/// has no gap between two steps; and returns how many. An event's newest change
/// stays, so that its history always tells its version.
pub async fn forget(conn: &mut PgConnection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "-- changes::forget
        WITH old AS MATERIALIZED (
            SELECT c.event_id, c.version FROM changes c JOIN events e ON e.event_id = c.event_id
             WHERE c.change_time < now() - make_interval(secs => $1) AND c.version < e.version
             ORDER BY c.change_time, c.event_id, c.version LIMIT $2 FOR UPDATE OF c SKIP LOCKED
        )
        DELETE FROM changes c USING old WHERE c.event_id = old.event_id AND c.version = old.version";
    let done = sqlx::query(SQL).bind(age.as_secs_f64()).bind(i64::from(limit)).execute(conn).await?;
    Ok(done.rows_affected())
}
