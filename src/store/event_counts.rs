//! Statements on the samples of events' counters.

use std::time::Duration;

use sqlx::PgConnection;

use super::{StoreError, columns::Columns, types::Count};
use crate::domain::{event::Counters, ids::EventId, time::Timestamp};

/// How much of an event was taken at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The end of the step that it stands for.
    pub time: Timestamp,
    /// Units in total.
    pub capacity: u32,
    /// The counters, and the version that had them.
    pub counters: Counters,
}

/// Samples the counters of these events, but for those that have not changed since their last sample: another server
/// may have sampled them.
pub async fn sample(conn: &mut PgConnection, event_ids: &[EventId]) -> Result<u64, StoreError> {
    const SQL: &str = "-- event_counts::sample
        INSERT INTO event_counts (event_id, sample_time, version, capacity, held, confirmed, waiting)
        SELECT e.event_id, now(), e.version, e.capacity, e.held, e.confirmed, e.waiting
          FROM events e
         WHERE e.event_id = ANY($1)
           AND e.version IS DISTINCT FROM (
               SELECT c.version FROM event_counts c WHERE c.event_id = e.event_id ORDER BY c.sample_time DESC LIMIT 1)
            ON CONFLICT DO NOTHING";
    Ok(sqlx::query(SQL).bind(event_ids).execute(conn).await?.rows_affected())
}

/// An event's counters at the end of each `step` of the last `window`, and now. Steps before the first sample are left
/// out. None: there is no such event.
pub async fn list(
    conn: &mut PgConnection,
    event_id: &EventId,
    window: Duration,
    step: Duration,
) -> Result<Option<Vec<Sample>>, StoreError> {
    const SQL: &str = "-- event_counts::list
        SELECT e.now, e.capacity, e.held, e.confirmed, e.version, e.waiting
          FROM (SELECT now() AS now, events.* FROM events WHERE event_id = $1 AND state <> 'DELETED') e
         UNION ALL
        SELECT s.time, c.capacity, c.held, c.confirmed, c.version, c.waiting
          FROM generate_series(date_bin($3, now(), 'epoch') - $2, now() - interval '1 microsecond', $3) AS s (time)
         CROSS JOIN LATERAL (
             SELECT * FROM event_counts n WHERE n.event_id = $1 AND n.sample_time <= s.time
              ORDER BY n.sample_time DESC LIMIT 1) c
         ORDER BY 1";
    let rows = sqlx::query(SQL).bind(event_id).bind(window).bind(step).fetch_all(conn).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let (time, Count(capacity)) = (columns.get()?, columns.get()?);
        let (Count(held), Count(confirmed)) = (columns.get()?, columns.get()?);
        let (version, Count(waiting)) = (columns.get()?, columns.get()?);
        Ok(Sample { time, capacity, counters: Counters { held, confirmed, version, waiting } })
    };
    let samples = rows.iter().map(read).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok((!samples.is_empty()).then_some(samples))
}

/// Deletes up to `limit` samples older than `age`, and returns how many.
pub async fn prune(conn: &mut PgConnection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "-- event_counts::prune
        WITH old AS MATERIALIZED (
            SELECT event_id, sample_time FROM event_counts WHERE sample_time < now() - make_interval(secs => $1)
             ORDER BY sample_time LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        DELETE FROM event_counts c USING old WHERE c.event_id = old.event_id AND c.sample_time = old.sample_time";
    Ok(sqlx::query(SQL).bind(age.as_secs_f64()).bind(i64::from(limit)).execute(conn).await?.rows_affected())
}
