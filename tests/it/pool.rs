//! Connections are reused: a failed commit leaves nothing behind for the next borrower.

use std::time::Duration;

use reservd::store::{Budget, Pool, PoolSettings, StoreError, Tx};
use sqlx::{Executor, PgConnection};
use tokio::{join, time::Instant};

use crate::support::TestDatabase;

/// A deferred constraint that makes a commit with a wrong mark fail.
const MARKS: &str = "
    CREATE TABLE marks (mark text);
    CREATE FUNCTION refuse_wrong() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.mark = 'wrong' THEN RAISE 'it is wrong'; END IF; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER refuse_wrong AFTER INSERT ON marks
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_wrong();";

async fn begin(pool: &Pool) -> Result<Tx, StoreError> {
    let minute = Duration::from_secs(60);
    let budget = Budget { deadline: Instant::now() + minute, max_lock_wait: minute };
    pool.begin_unlimited("test", budget).await
}

async fn mark(conn: &mut PgConnection, mark: &str) {
    let written = sqlx::query("INSERT INTO marks VALUES ($1)").bind(mark).execute(conn).await;
    assert_eq!(written.expect("it is written").rows_affected(), 1);
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing_behind_for_the_next_borrower() {
    let database = TestDatabase::new().await;
    let settings = PoolSettings {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(3600),
        statement_timeout: Duration::from_secs(60),
    };
    let mut beside = database.connect().await;
    beside.execute(sqlx::raw_sql(MARKS)).await.expect("a table of the test's own");
    let pool = Pool::new(database.options.clone(), settings);
    let mut first = begin(&pool).await.expect("it begins");
    mark(&mut first, "wrong").await;
    let (second, ended) = join!(begin(&pool), first.commit());
    assert!(ended.is_err());
    assert_eq!(pool.connections_made(), 2, "the first connection is closed");
    let mut second = second.expect("it begins");
    mark(&mut second, "second").await;
    second.rollback().await;
    let mut third = begin(&pool).await.expect("it begins");
    mark(&mut third, "third").await;
    third.commit().await.expect("it commits");
    let marks = sqlx::query_scalar::<_, String>("SELECT mark FROM marks").fetch_all(&mut beside).await;
    assert_eq!(marks.expect("marks are read"), ["third"]);
    assert_eq!(pool.connections_made(), 2);
}
