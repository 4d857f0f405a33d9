//! What keeps a decision from being written, or a write from being committed, for as long as a test wants.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{TestServer, eventually};

/// Stalls whoever needs an event's row lock, where it is waited for.
pub const EVERY_ROW: &str = "BEGIN; SELECT FROM events FOR UPDATE";
/// Stalls whoever needs an event's row lock, also where that would not wait for it.
pub const EVERY_LOCK: &str = "BEGIN; LOCK TABLE events IN EXCLUSIVE MODE";
/// Stalls every update of an event, and so also what is decided under its row lock. The lock itself is free.
pub const EVERY_UPDATE: &str = "BEGIN; LOCK TABLE events IN SHARE MODE";

/// A lock of a session beside the service.
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

    /// Stalls every commit that changes a reservation of this user. All of it is done then but the commit itself.
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
