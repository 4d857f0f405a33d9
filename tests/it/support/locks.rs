//! Locks that tests hold, on a row or on every commit, and the calls that wait for them.

use std::time::Duration;

use prost_types::Timestamp;
use sqlx::{Executor, PgConnection};
use tokio::time::interval;

use super::{TestServer, eventually, mutations::all};

/// The connections of a test server for mutations, and so the number of calls that can wait for a lock.
pub const CONNECTIONS: usize = 12;

/// An event's row lock, held by the test.
pub struct HeldRow(PgConnection);

impl HeldRow {
    pub async fn release(mut self) {
        self.0.execute("ROLLBACK").await.expect("the row can be released");
    }
}

/// Blocks every commit with a change until this is released.
pub struct HeldCommits(PgConnection);

impl HeldCommits {
    pub async fn release(mut self) {
        self.0.execute("SELECT pg_advisory_unlock(1)").await.expect("commits can be released");
    }
}

impl TestServer {
    pub async fn hold_row(&self, event_id: &str) -> HeldRow {
        let mut sql = self.sql().await;
        sql.execute("BEGIN").await.expect("a transaction can begin");
        let lock = sqlx::query("SELECT FROM events WHERE event_id = $1 FOR UPDATE").bind(event_id);
        assert_eq!(lock.execute(&mut sql).await.expect("a row can be locked").rows_affected(), 1);
        HeldRow(sql)
    }

    pub async fn hold_commits(&self) -> HeldCommits {
        let mut sql = self.sql().await;
        let trigger = "
            CREATE OR REPLACE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
            DROP TRIGGER IF EXISTS wait_for_release ON changes;
            CREATE CONSTRAINT TRIGGER wait_for_release AFTER INSERT ON changes
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_release();";
        sql.execute(sqlx::raw_sql(trigger)).await.expect("commits can be made to wait");
        sql.execute("SELECT pg_advisory_lock(1)").await.expect("commits can be held");
        HeldCommits(sql)
    }

    /// Waits until at least this number of calls are blocked by a lock: each on its own connection, or in the lane of
    /// a connection that is blocked.
    pub async fn waiting(&self, at_least: usize) {
        const WAITING: &str = "
            SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'reservd' AND wait_event_type = 'Lock'";
        let mut sql = self.sql().await;
        eventually(&format!("{at_least} calls wait for a lock"), async || {
            let connections: i64 = sqlx::query_scalar(WAITING).fetch_one(&mut sql).await.expect("activity is shown");
            // The first command of a lane is the connection's.
            let behind: usize =
                self.database.commands_in_lanes().iter().map(|commands| commands.saturating_sub(1)).sum();
            usize::try_from(connections).unwrap_or(0) + behind >= at_least
        })
        .await;
    }

    /// Moves the expire time of every hold of an event into the past.
    pub async fn lapse_holds(&self, event_id: &str) {
        const SQL: &str = "UPDATE reservations SET expire_time = clock_timestamp() - interval '1 second'
            WHERE event_id = $1 AND state = 'HELD'";
        sqlx::query(SQL).bind(event_id).execute(&mut self.sql().await).await.expect("the holds can be moved");
    }

    /// Runs calls concurrently and blocks their writes until `waiting` of them wait for the event's row, so that those
    /// that read first have read the same version.
    pub async fn race<T>(
        &self,
        event_id: &str,
        waiting: usize,
        calls: impl IntoIterator<Item = impl Future<Output = T>>,
    ) -> Vec<T> {
        let row = self.hold_row(event_id).await;
        let start = async {
            self.waiting(waiting).await;
            row.release().await;
        };
        tokio::join!(all(calls), start).0
    }

    /// Waits until PostgreSQL's clock has reached `moment`, plus this number of microseconds.
    pub async fn until(&self, moment: Option<Timestamp>, micros_after: i64) {
        let moment = moment.expect("a moment to wait for");
        let micros = moment.seconds * 1_000_000 + i64::from(moment.nanos) / 1000 + micros_after;
        let (mut sql, mut turns) = (self.sql().await, interval(Duration::from_millis(1)));
        let clock = "SELECT clock_timestamp() >= 'epoch'::timestamptz + $1 * interval '1 microsecond'";
        while !sqlx::query_scalar::<_, bool>(clock).bind(micros).fetch_one(&mut sql).await.expect("the clock is read") {
            turns.tick().await;
        }
    }

    /// The kinds of an event's changes, the oldest first; of one user, or all.
    pub async fn history(&self, event_id: &str, user_id: Option<&str>) -> Vec<String> {
        let kinds = "SELECT replace(kind, 'RESERVATION_', '') FROM changes WHERE event_id = $1 AND ($2 IS NULL OR user_id = $2) ORDER BY version";
        let kinds = sqlx::query_scalar(kinds).bind(event_id).bind(user_id);
        kinds.fetch_all(&mut self.sql().await).await.expect("the history can be read")
    }
}
