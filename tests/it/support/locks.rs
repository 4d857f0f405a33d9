//! Rows locked from outside, to stop calls where a test wants them; and holds whose time is over.

use sqlx::{Executor, PgConnection};

use super::{TestServer, eventually};

/// An event's row, locked until this is let go.
pub struct HeldRow {
    connection: PgConnection,
}

impl HeldRow {
    /// Lets the row go.
    pub async fn let_go(mut self) {
        self.connection.execute("ROLLBACK").await.expect("the transaction ends");
    }
}

impl TestServer {
    /// Locks an event's row.
    pub async fn hold_row(&self, event_id: &str) -> HeldRow {
        let mut connection = self.sql().await;
        connection.execute("BEGIN").await.expect("a transaction begins");
        let locked = sqlx::query("SELECT 1 FROM events WHERE event_id = $1 FOR UPDATE").bind(event_id);
        locked.fetch_one(&mut connection).await.expect("the event is there");
        HeldRow { connection }
    }

    /// Waits until so many statements on this database wait for a lock.
    pub async fn wait_for_waiters(&self, count: i64) {
        const SQL: &str = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut sql = self.sql().await;
        eventually("statements wait for a lock", async || {
            let waiting: i64 = sqlx::query_scalar(SQL).fetch_one(&mut sql).await.expect("the activity can be read");
            waiting >= count
        })
        .await;
    }

    /// Moves every hold of an event to a time that is over.
    pub async fn lapse_holds(&self, event_id: &str) {
        const SQL: &str = "UPDATE reservations SET expire_time = clock_timestamp() - interval '1 second'
            WHERE event_id = $1 AND state = 'HELD'";
        sqlx::query(SQL).bind(event_id).execute(&mut self.sql().await).await.expect("the holds can be moved");
    }
}
