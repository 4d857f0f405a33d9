//! Statements on the outbox: the changes to publish, the cursor, and the lock of the leader.
//!
//! # Which changes are new, and their order
//!
//! `changes.txid` is the id of the transaction that wrote a change. The cursor, `delivered_below`, says
//! that every change with a lower id has been delivered. A *window* goes from there up to a fence, which
//! lies below every transaction that still runs: nothing can appear in it later.
//!
//! Ids do not follow versions. A transaction may get its id early and an event's lock late: then 5 has
//! version 2 of the event, and 7 has version 1. The fence may even fall between the two, when some other
//! transaction 6 still runs. So a window is not published as it is. For each event that has a change in
//! it, with `newest` the newest of these, *every* version up to `newest` that is not published yet is
//! published, whatever transaction wrote it.
//!
//! That is enough, since versions are assigned under the event's row lock: a snapshot that sees version 2
//! sees version 1 too. Those below `newest` that are published already are all up to the last one with
//! an id below the cursor, by induction over the windows; and any that an earlier window pulled ahead of
//! its fence, which the caller remembers ([`Ahead`](crate::domain::relay::Ahead)). Each event's
//! versions therefore go out as consecutive runs, whose ends only grow. How windows are cut does not
//! matter: their size is free.

use sqlx::{Connection, PgConnection, Row};

use super::{
    StoreError,
    columns::{Columns, Table},
    tables::change_columns,
};
use crate::domain::{
    change::Change,
    ids::EventId,
    relay::{Fetched, Returned, Window},
};

/// The advisory lock that makes one relay the active one. "rsvrelay" in ASCII.
const LEADER_LOCK: i64 = 0x7273_7672_656c_6179;

/// A connection of the relay's own. Its advisory lock ends with it, however it ends.
pub struct Session {
    pub(super) connection: PgConnection,
}

impl Session {
    /// Closes the connection in order, so that the lock is free at once.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }

    /// Makes this session the leader, unless another one is.
    pub async fn try_lead(&mut self) -> Result<bool, StoreError> {
        const SQL: &str = "-- relay::try_lead\nSELECT pg_try_advisory_lock($1)";
        Ok(sqlx::query_scalar(SQL).bind(LEADER_LOCK).fetch_one(&mut self.connection).await?)
    }

    /// The cursor: how far changes have been delivered. None if it lies in this server's future, as in a database that
    /// was restored from a dump into another PostgreSQL.
    pub async fn delivered_below(&mut self) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "-- relay::delivered_below
            SELECT delivered_below FROM relay
             WHERE delivered_below <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        Ok(sqlx::query_scalar(SQL).fetch_optional(&mut self.connection).await?)
    }

    /// The next window from `low` on, of about `limit` changes, with the changes of its events in the order in which
    /// they must be published.
    ///
    /// Transactions in other databases of the same PostgreSQL do not hold the fence back, if this role may see them:
    /// they can't write here.
    pub async fn window(&mut self, low: i64, limit: u32) -> Result<Window, StoreError> {
        const SQL: &str = concat!(
            "-- relay::window
            WITH fence AS MATERIALIZED (
                SELECT COALESCE(
                    (SELECT min(r.xid::text::bigint)
                       FROM (SELECT pg_snapshot_xip(pg_current_snapshot()) AS xid) r
                      WHERE NOT EXISTS (SELECT FROM pg_stat_activity a
                                         WHERE a.backend_xid = r.xid::xid AND a.datname <> current_database())),
                    pg_snapshot_xmax(pg_current_snapshot())::text::bigint) AS txid
            ), first AS MATERIALIZED (
                SELECT c.txid FROM changes c
                 WHERE c.txid >= $1 AND c.txid < (SELECT f.txid FROM fence f) ORDER BY c.txid LIMIT $2
            ), cut AS MATERIALIZED (
                -- A transaction is never cut: where the limit falls into one, the window ends before it,
                -- or is that one.
                SELECT CASE WHEN count(*) < $2 THEN GREATEST($1, (SELECT f.txid FROM fence f))
                            ELSE GREATEST(max(txid), min(txid) + 1) END AS high
                  FROM first
            ), news AS MATERIALIZED (
                SELECT c.event_id, max(c.version) AS newest FROM changes c
                 WHERE c.txid >= $1 AND c.txid < (SELECT u.high FROM cut u) GROUP BY c.event_id
            )
            SELECT u.high, c.txid, ",
            change_columns!(),
            " FROM cut u
              LEFT JOIN (news n CROSS JOIN LATERAL (
                   SELECT p.* FROM changes p
                    WHERE p.event_id = n.event_id AND p.version <= n.newest
                      AND p.version > COALESCE((SELECT d.version FROM changes d
                                                 WHERE d.event_id = n.event_id AND d.version < n.newest
                                                   AND d.txid < $1
                                                 ORDER BY d.version DESC LIMIT 1), 0)) c) ON true
             ORDER BY c.event_id, c.version"
        );
        let rows = sqlx::query(SQL).bind(low).bind(i64::from(limit)).fetch_all(&mut self.connection).await?;
        let mut window = Window { low, high: low, changes: Vec::with_capacity(rows.len()) };
        for row in &rows {
            let mut columns = Columns::of(row);
            window.high = columns.get()?;
            if let Some(txid) = columns.get()? {
                window.changes.push(Fetched { txid, change: Change::read(&mut columns)? });
            }
        }
        Ok(window)
    }

    /// Moves the cursor over a window, and keeps the changes that the broker returned. False: the cursor is not where
    /// the window began, so another relay has moved it, and nothing was written.
    pub async fn advance(&mut self, low: i64, high: i64, returned: &[Returned]) -> Result<bool, StoreError> {
        const SQL: &str = "-- relay::advance
            WITH moved AS (
                UPDATE relay SET delivered_below = $2 WHERE delivered_below = $1 RETURNING 1
            ), kept AS (
                INSERT INTO relay_returned (event_id, version, routing_key)
                SELECT r.event_id, r.version, r.routing_key
                  FROM unnest($3::text[], $4::bigint[], $5::text[]) AS r (event_id, version, routing_key), moved
                    ON CONFLICT (event_id, version) DO UPDATE SET return_time = now(), republish = false
            )
            SELECT count(*) > 0 FROM moved";
        let (event_ids, versions, keys) = columns(returned);
        let query = sqlx::query_scalar(SQL).bind(low).bind(high).bind(event_ids).bind(versions).bind(keys);
        Ok(query.fetch_one(&mut self.connection).await?)
    }

    /// Up to `limit` returned changes that an operator wants to be published again.
    pub async fn to_republish(&mut self, limit: u32) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = concat!(
            "-- relay::to_republish\nSELECT ",
            change_columns!(),
            " FROM relay_returned r JOIN changes c ON c.event_id = r.event_id AND c.version = r.version
             WHERE r.republish ORDER BY r.event_id, r.version LIMIT $1"
        );
        let rows = sqlx::query(SQL).bind(i64::from(limit)).fetch_all(&mut self.connection).await?;
        Ok(rows.iter().map(Change::of).collect::<Result<_, _>>()?)
    }

    /// Records the results of publishing changes again: those in `returned` wait for the operator's next request, the
    /// others are delivered.
    pub async fn republished(&mut self, all: &[Returned], returned: &[Returned]) -> Result<(), StoreError> {
        const SQL: &str = "-- relay::republished
            WITH again AS (
                UPDATE relay_returned r SET republish = false, return_time = now()
                  FROM unnest($3::text[], $4::bigint[]) AS a (event_id, version)
                 WHERE r.event_id = a.event_id AND r.version = a.version
            )
            DELETE FROM relay_returned r
             USING unnest($1::text[], $2::bigint[]) AS d (event_id, version)
             WHERE r.event_id = d.event_id AND r.version = d.version";
        let delivered: Vec<_> = all.iter().filter(|one| !returned.contains(one)).cloned().collect();
        let ((ids, versions, _), (again_ids, again_versions, _)) = (columns(&delivered), columns(returned));
        let query = sqlx::query(SQL).bind(ids).bind(versions).bind(again_ids).bind(again_versions);
        query.execute(&mut self.connection).await?;
        Ok(())
    }
}

fn columns(returned: &[Returned]) -> (Vec<&EventId>, Vec<i64>, Vec<&str>) {
    let ids = returned.iter().map(|one| &one.event_id).collect();
    let versions = returned.iter().map(|one| one.version).collect();
    (ids, versions, returned.iter().map(|one| one.routing_key).collect())
}

/// Creates the cursor if there is none yet: changes committed from now on are published.
pub async fn ask_for_outbox(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- relay::ask_for_outbox
        INSERT INTO relay (delivered_below) VALUES (pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
            ON CONFLICT (one) DO NOTHING";
    sqlx::query(SQL).execute(conn).await?;
    Ok(())
}

/// How many changes wait to be published, counted up to `most`; and for how many seconds the first has waited.
pub async fn backlog(conn: &mut PgConnection, most: u32) -> Result<(i64, f64), StoreError> {
    const SQL: &str = "-- relay::backlog
        WITH cursor AS MATERIALIZED (SELECT delivered_below AS txid FROM relay)
        SELECT (SELECT count(*) FROM (SELECT FROM changes c WHERE c.txid >= (SELECT k.txid FROM cursor k)
                                       LIMIT $1) waiting),
               COALESCE((SELECT extract(epoch FROM clock_timestamp() - c.change_time)::double precision
                           FROM changes c WHERE c.txid >= (SELECT k.txid FROM cursor k)
                          ORDER BY c.txid LIMIT 1), 0)";
    let row = sqlx::query(SQL).bind(i64::from(most)).fetch_one(conn).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Deletes up to `limit` records of returned changes that are older than `age`.
pub async fn prune_returned(conn: &mut PgConnection, age: std::time::Duration, limit: u32) -> Result<(), StoreError> {
    const SQL: &str = "-- relay::prune_returned
        DELETE FROM relay_returned WHERE (event_id, version) IN (
            SELECT event_id, version FROM relay_returned WHERE return_time < now() - make_interval(secs => $1)
             ORDER BY return_time LIMIT $2)";
    sqlx::query(SQL).bind(age.as_secs_f64()).bind(i64::from(limit)).execute(conn).await?;
    Ok(())
}
