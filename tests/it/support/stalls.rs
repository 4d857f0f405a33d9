//! Stalls: they delay the write of a decision, or the commit of a write, for as long as a test wants.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{TestServer, eventually};

/// Stalls every command that waits for an event's row lock.
pub const EVERY_ROW: &str = "BEGIN; SELECT FROM events FOR UPDATE";
/// Stalls every command that needs an event's row lock, even if it would not wait for the lock.
pub const EVERY_LOCK: &str = "BEGIN; LOCK TABLE events IN EXCLUSIVE MODE";
/// Stalls every update of an event, and so also decisions made under its row lock. The lock itself is free.
pub const EVERY_UPDATE: &str = "BEGIN; LOCK TABLE events IN SHARE MODE";

/// A lock of a session outside the service.
pub struct Stall(PgConnection);

impl Stall {
    pub async fn release(self) {
        self.0.close().await.expect("the session can be ended");
    }
}

impl TestServer {
    /// Takes a lock that stalls the service: [`EVERY_ROW`], [`EVERY_LOCK`] or [`EVERY_UPDATE`].
    pub async fn stall(&self, lock: &'static str) -> Stall {
        let mut sql = self.sql().await;
        sql.execute(sqlx::raw_sql(lock)).await.expect("it can be locked");
        Stall(sql)
    }

    /// Stalls every commit that changes a reservation of this user. Everything but the commit itself is done then.
    pub async fn stall_commits_of(&self, user_id: &str) -> Stall {
        let trigger = format!(
            "CREATE OR REPLACE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(2); RETURN NULL; END $$;
             DROP TRIGGER IF EXISTS stall ON changes;
             CREATE CONSTRAINT TRIGGER stall AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW WHEN (NEW.user_id = '{user_id}') EXECUTE FUNCTION stall();
             SELECT pg_advisory_lock(2)"
        );
        let mut sql = self.sql().await;
        sql.execute(sqlx::raw_sql(AssertSqlSafe(trigger))).await.expect("commits can be stalled");
        Stall(sql)
    }
    /// Waits until a commit is stalled.
    pub async fn commit_is_stalled(&self) {
        const STALLED: &str = "
            SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                            WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)";
        let mut sql = self.sql().await;
        eventually("a commit is stalled", async || {
            sqlx::query_scalar(STALLED).fetch_one(&mut sql).await.expect("locks are shown")
        })
        .await;
    }
}
