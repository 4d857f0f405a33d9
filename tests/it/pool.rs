//! Connections change hands: who waits to begin a transaction gets one that was begun by whoever ended the
//! last, and nobody else ever finds himself in one.

use std::{pin::pin, time::Duration};

use futures::poll;
use reservd::store::{Budget, Lease, Pool, PoolSettings, StoreError, Tx};
use sqlx::{Executor, PgConnection, Row};
use tokio::{join, time::Instant};

use crate::support::{TestDatabase, eventually, soon};

/// What is written here is committed when nobody has the lock.
const MARKS: &str = "
    CREATE TABLE marks (mark text);
    CREATE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait_for_release AFTER INSERT ON marks
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_release();";

/// A pool of one connection, and another beside it that looks on.
struct Bottleneck {
    pool: Pool,
    beside: PgConnection,
}

impl Bottleneck {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let settings = PoolSettings {
            max_connections: 1,
            acquire_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            statement_timeout: Duration::from_secs(60),
        };
        let mut beside = database.connect().await;
        beside.execute(sqlx::raw_sql(MARKS)).await.expect("a table of the test's own");
        Self { pool: Pool::new(database.options.clone().application_name("pooled"), settings), beside }
    }

    async fn lease(&self) -> Lease {
        let lease = self.pool.lease(Instant::now() + Duration::from_secs(60));
        soon("a connection is free", lease).await.expect("it is lent")
    }

    /// What the pool's connections are doing, and what they did last.
    async fn activity(&mut self) -> Vec<(String, String)> {
        let activity = sqlx::query(
            "SELECT state, query FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = 'pooled'",
        );
        let rows = activity.fetch_all(&mut self.beside).await.expect("activity is shown");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// What was committed.
    async fn marks(&mut self) -> Vec<String> {
        let marks = sqlx::query_scalar("SELECT mark FROM marks ORDER BY mark");
        marks.fetch_all(&mut self.beside).await.expect("marks are read")
    }
}

async fn begin(pool: &Pool) -> Result<Tx, StoreError> {
    let minute = Duration::from_secs(60);
    let budget = Budget { deadline: Instant::now() + minute, max_lock_wait: minute };
    pool.begin_unlimited("test", budget).await
}

async fn mark(conn: &mut PgConnection, mark: &str) {
    let written = sqlx::query("INSERT INTO marks VALUES ($1)").bind(mark).execute(conn).await;
    assert_eq!(written.expect("it is written").rows_affected(), 1);
}

fn idle(query: &str) -> Vec<(String, String)> {
    vec![("idle".into(), query.into())]
}

fn begun(query: &str) -> Vec<(String, String)> {
    vec![("idle in transaction".into(), query.into())]
}

#[tokio::test]
async fn whoever_waits_to_begin_finds_it_done_with_the_end_before() {
    let mut at = Bottleneck::new().await;
    let mut first = begin(&at.pool).await.expect("it begins");
    assert_eq!(at.activity().await, begun("BEGIN"));
    mark(&mut first, "first").await;
    let (second, ended) = join!(begin(&at.pool), first.commit());
    ended.expect("it commits");
    assert_eq!(at.activity().await, begun("COMMIT AND CHAIN"));
    let mut second = second.expect("it is begun");
    mark(&mut second, "undone").await;
    let (third, ()) = join!(begin(&at.pool), second.rollback());
    assert_eq!(at.activity().await, begun("ROLLBACK AND CHAIN"));
    let mut third = third.expect("it is begun");
    mark(&mut third, "third").await;
    third.commit().await.expect("it commits");
    assert_eq!(at.activity().await, idle("COMMIT"), "nobody waits");
    assert_eq!(at.marks().await, ["first", "third"]);
    assert_eq!(at.pool.connections_made(), 1);
}

#[tokio::test]
async fn statements_of_their_own_are_in_no_transaction_that_somebody_else_waits_for() {
    let mut at = Bottleneck::new().await;
    let first = begin(&at.pool).await.expect("it begins");
    let single = async {
        let mut lease = at.lease().await;
        mark(&mut lease, "single").await;
        // Not given back: whatever it was in would be rolled back.
        drop(lease);
    };
    let ((), last, ended) = join!(single, begin(&at.pool), first.commit());
    ended.expect("it commits");
    last.expect("it begins").rollback().await;
    assert_eq!(at.marks().await, ["single"]);
}

#[tokio::test]
async fn what_was_begun_for_somebody_who_has_gone_is_ended() {
    let mut at = Bottleneck::new().await;
    // Gone while it is begun for him; and before he has taken it.
    for (goes_early, made) in [(true, 1), (false, 2)] {
        let mut first = begin(&at.pool).await.expect("it begins");
        mark(&mut first, &format!("{goes_early}")).await;
        {
            let mut waiting = Box::pin(begin(&at.pool));
            assert!(poll!(&mut waiting).is_pending());
            if goes_early {
                let mut commit = pin!(first.commit());
                at.beside.execute("SELECT pg_advisory_lock(1)").await.expect("it is free");
                assert!(poll!(&mut commit).is_pending());
                drop(waiting);
                at.beside.execute("SELECT pg_advisory_unlock(1)").await.expect("it was locked");
                commit.await.expect("it commits");
            } else {
                first.commit().await.expect("it commits");
                drop(waiting);
            }
        }
        if goes_early {
            eventually("it is ended", async || at.activity().await == idle("ROLLBACK")).await;
        }
        let mut lease = at.lease().await;
        mark(&mut lease, &format!("{goes_early}, then")).await;
        lease.give_back();
        assert_eq!(at.pool.connections_made(), made);
    }
    assert_eq!(at.marks().await, ["false", "false, then", "true", "true, then"]);
}
