//! Connections change hands: who waits to begin a transaction gets one that was begun by whoever ended the
//! last, and no other caller is ever in one.

use std::{path::Path, time::Duration};

use futures::poll;
use reservd::store::{Budget, Lease, Pool, PoolSettings, StoreError, Tx};
use sqlx::{Executor, PgConnection, Row, postgres::PgConnectOptions};
use tokio::{join, time::Instant};

use crate::support::{PgProxy, TestDatabase, eventually, soon};

/// What is written here is committed when the lock is free; unless it is wrong.
const MARKS: &str = "
    CREATE TABLE marks (mark text);
    CREATE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            PERFORM pg_advisory_xact_lock_shared(1);
            IF NEW.mark = 'wrong' THEN RAISE 'it is wrong'; END IF;
            RETURN NULL;
        END $$;
    CREATE CONSTRAINT TRIGGER wait_for_release AFTER INSERT ON marks
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_release();";

/// A pool of few connections, and another beside it that looks on.
struct Bottleneck {
    pool: Pool,
    beside: PgConnection,
}

impl Bottleneck {
    async fn new() -> Self {
        Self::of(1).await
    }

    async fn of(max_connections: u32) -> Self {
        let database = TestDatabase::new().await;
        Self::on(&database, database.options.clone(), max_connections, Duration::from_secs(60)).await
    }

    async fn on(
        database: &TestDatabase,
        options: PgConnectOptions,
        max_connections: u32,
        idle_in_transaction_session_timeout: Duration,
    ) -> Self {
        let settings = PoolSettings {
            max_connections,
            acquire_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            statement_timeout: Duration::from_secs(60),
            idle_in_transaction_session_timeout,
        };
        let mut beside = database.connect().await;
        beside.execute(sqlx::raw_sql(MARKS)).await.expect("a table of the test's own");
        Self { pool: Pool::new(options.application_name("pooled"), settings), beside }
    }

    /// Lets no transaction that has written a mark commit.
    async fn hold_commits(&mut self) {
        self.beside.execute("SELECT pg_advisory_lock(1)").await.expect("it is free");
    }

    async fn release_commits(&mut self) {
        self.beside.execute("SELECT pg_advisory_unlock(1)").await.expect("it was locked");
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
    let budget = Budget { asked: Instant::now(), deadline: Instant::now() + minute, max_lock_wait: minute };
    pool.begin_unlimited("test", budget).await
}

async fn lease(pool: &Pool) -> Lease {
    let lease = pool.lease(Instant::now() + Duration::from_secs(60));
    soon("a connection is free", lease).await.expect("it is lent")
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
async fn a_caller_that_waits_to_begin_finds_its_transaction_begun() {
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
    assert_eq!(at.activity().await, idle("COMMIT"), "no caller waits");
    assert_eq!(at.marks().await, ["first", "third"]);
    assert_eq!(at.pool.connections_made(), 1);
}

#[tokio::test]
async fn autocommit_statements_are_in_no_transaction_that_was_begun_for_another() {
    let mut at = Bottleneck::new().await;
    let mut first = begin(&at.pool).await.expect("it begins");
    mark(&mut first, "first").await;
    at.hold_commits().await;
    let pool = at.pool.clone();
    let mut gone = Box::pin(begin(&pool));
    assert!(poll!(&mut gone).is_pending());
    let mut commit = Box::pin(first.commit());
    assert!(poll!(&mut commit).is_pending());
    // Who comes too late to be seen by the commit gets what was begun for the one who has gone.
    let mut late = Box::pin(lease(&pool));
    assert!(poll!(&mut late).is_pending());
    at.release_commits().await;
    commit.await.expect("it commits");
    assert_eq!(at.activity().await, begun("COMMIT AND CHAIN"));
    drop(gone);
    let mut single = late.await;
    assert_eq!(at.activity().await, idle("ROLLBACK"));
    mark(&mut single, "single").await;
    // Not given back: whatever it was in would be rolled back.
    drop(single);
    assert_eq!(at.marks().await, ["first", "single"]);
    assert_eq!(at.pool.connections_made(), 1);
}

#[tokio::test]
async fn nothing_is_begun_that_would_cost_others_a_round_trip() {
    let mut at = Bottleneck::new().await;
    let first = begin(&at.pool).await.expect("it begins");
    let pool = at.pool.clone();
    let mut other = Box::pin(lease(&pool));
    let mut waiting = Box::pin(begin(&pool));
    assert!(poll!(&mut other).is_pending() && poll!(&mut waiting).is_pending());
    first.commit().await.expect("it commits");
    assert_eq!(at.activity().await, idle("COMMIT"), "the other is the first in line");
    other.await.give_back();
    waiting.await.expect("it begins").rollback().await;

    // Two end while one waits.
    let mut at = Bottleneck::of(2).await;
    let pool = at.pool.clone();
    let mut one = begin(&pool).await.expect("it begins");
    let two = begin(&pool).await.expect("it begins");
    mark(&mut one, "one").await;
    at.hold_commits().await;
    let mut waiting = Box::pin(begin(&pool));
    assert!(poll!(&mut waiting).is_pending());
    let mut commit = Box::pin(one.commit());
    assert!(poll!(&mut commit).is_pending());
    two.commit().await.expect("it commits");
    assert!(at.activity().await.contains(&("idle".into(), "COMMIT".into())), "it is promised by the other");
    at.release_commits().await;
    commit.await.expect("it commits");
    waiting.await.expect("it begins").rollback().await;
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing_behind_for_the_next_borrower() {
    let mut at = Bottleneck::new().await;
    let mut first = begin(&at.pool).await.expect("it begins");
    mark(&mut first, "wrong").await;
    let (second, ended) = join!(begin(&at.pool), first.commit());
    assert!(ended.is_err());
    assert_eq!(at.pool.connections_made(), 2);
    let mut second = second.expect("it begins");
    mark(&mut second, "second").await;
    second.commit().await.expect("it commits");
    // What was promised with it is so no more.
    let (third, ended) = join!(begin(&at.pool), begin(&at.pool).await.expect("it begins").commit());
    ended.expect("it commits");
    assert_eq!(at.activity().await, begun("COMMIT AND CHAIN"));
    third.expect("it begins").rollback().await;
    assert_eq!(at.marks().await, ["second"]);
}

#[tokio::test]
async fn a_transaction_that_was_idle_for_too_long_is_known_to_be_undone() {
    let database = TestDatabase::new().await;
    let proxy = PgProxy::to(&database).await;
    // A socket, and TCP: the news that the session has ended arrives in different ways.
    for options in [database.options.clone(), proxy.url().parse().expect("a URL")] {
        let mut at = Bottleneck::on(&database, options, 1, Duration::from_millis(100)).await;
        for commits in [true, false] {
            let mut tx = begin(&at.pool).await.expect("it begins");
            mark(&mut tx, "lost").await;
            let session: i32 =
                sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *tx).await.expect("a number");
            let process = Path::new("/proc").join(session.to_string());
            eventually("PostgreSQL has ended it", async || !process.exists()).await;
            let error = if commits {
                tx.commit().await.expect_err("it was ended")
            } else {
                let written = tx.execute("INSERT INTO marks VALUES ('lost')").await.map(drop).map_err(StoreError::from);
                tx.finish(written, |()| true).await.expect_err("it was ended")
            };
            assert!(error.undid_the_work(), "{error:?}");
            assert_eq!(at.marks().await, Vec::<String>::new());
        }
        at.beside
            .execute(sqlx::raw_sql("DROP TABLE marks CASCADE; DROP FUNCTION wait_for_release"))
            .await
            .expect("dropped");
    }
}

#[tokio::test]
async fn a_transaction_begun_for_a_caller_that_gave_up_is_ended() {
    let mut at = Bottleneck::new().await;
    // Gone while it is begun for him; and before he has taken it.
    for (goes_early, made) in [(true, 1), (false, 2)] {
        let mut first = begin(&at.pool).await.expect("it begins");
        mark(&mut first, &format!("{goes_early}")).await;
        let mut waiting = Box::pin(begin(&at.pool));
        assert!(poll!(&mut waiting).is_pending());
        if goes_early {
            at.beside.execute("SELECT pg_advisory_lock(1)").await.expect("it is free");
            let mut commit = Box::pin(first.commit());
            assert!(poll!(&mut commit).is_pending());
            drop(waiting);
            at.release_commits().await;
            commit.await.expect("it commits");
            eventually("it is ended", async || at.activity().await == idle("ROLLBACK")).await;
        } else {
            first.commit().await.expect("it commits");
            drop(waiting);
        }
        let mut lease = lease(&at.pool).await;
        mark(&mut lease, &format!("{goes_early}, then")).await;
        lease.give_back();
        assert_eq!(at.pool.connections_made(), made);
    }
    assert_eq!(at.marks().await, ["false", "false, then", "true", "true, then"]);
}
