//! The database goes away and comes back, or an operator cancels statements: calls are repeated or fail with a clear
//! error, no acknowledged change is lost, and the service recovers by itself.

use std::time::Duration;

use reservd::rpc::pb::{self, ExecutionStrategy};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::support::{
    Answer, EVERY_ROW, PATIENT, PgProxy, STRATEGIES, TestDatabase, TestServer, all, assert_refused, by_turns,
    eventually, patient_and, reason, reserve, soon, with,
};

const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                          WHERE datname = current_database() AND application_name = 'reservd'";

/// Asserts that a status is one that a caller may get during the outage.
fn assert_unavailable(status: &Status) {
    assert_eq!((status.code(), reason(status).as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"), "{status:?}");
}

/// Repeats a Reserve with its request_id until it is answered.
async fn insist(server: &TestServer, request: pb::ReserveRequest) -> (Answer, usize) {
    let (mut answer, mut unavailable) = (None, 0);
    eventually("it is answered", async || {
        match server.reserve(request.clone()).await {
            Ok(made) => answer = Some(made),
            Err(status) => {
                assert_unavailable(&status);
                unavailable += 1;
            }
        }
        answer.is_some()
    })
    .await;
    (answer.expect("it is answered"), unavailable)
}

#[tokio::test]
async fn killed_connections_lose_no_answer_and_no_unit() {
    let server = TestServer::with(&PATIENT).await;
    server.event("show", 1000).await;
    let callers = (0..16).map(async |n: usize| {
        for round in 0..12 {
            let user = format!("user-{n}-{round}");
            let options = by_turns(&STRATEGIES, n + round);
            let request = pb::ReserveRequest { request_id: user.clone(), options, ..reserve("show", &user) };
            let (answer, _) = insist(&server, request.clone()).await;
            // Whatever happened to the connection, the command was done once, and its answer is stored.
            let (again, _) = insist(&server, request).await;
            assert!(again.execution.replayed);
            assert_eq!(again.reservation, answer.reservation);
            let request = pb::GetEventRequest { event_id: "show".into() };
            if let Err(status) = server.events().get_event(request).await {
                assert_unavailable(&status);
            }
        }
    });
    let killer = async {
        let mut sql = server.sql().await;
        let mut killed = 0;
        for round in 1..=8 {
            // The load goes on a little between two kills.
            eventually("the load goes on", async || {
                let done: i64 = sqlx::query_scalar("SELECT version FROM events")
                    .fetch_one(&mut sql)
                    .await
                    .expect("the version can be read");
                done > round * 20
            })
            .await;
            killed += sqlx::query_scalar::<_, i64>(TERMINATE).fetch_one(&mut sql).await.expect("they can be killed");
        }
        assert!(killed > 8, "several at a time");
    };
    tokio::join!(all(callers), killer);
    let event = server.get_event("show").await;
    assert_eq!((event.counts.unwrap_or_default().held, event.version), (192, 193), "each once");
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_unavailable_database_is_reported_and_recovers() {
    let server = TestServer::with(&[]).await;
    server.event("show", 10).await;
    server.reserve(reserve("show", "ann")).await.expect("there is room");
    let mut admin = PgConnection::connect_with(&server.database.options.clone().database("postgres"))
        .await
        .expect("PostgreSQL can be connected to");
    let name = server.database.options.get_database().expect("a name").to_owned();
    let mut sql = server.sql().await;

    let gone = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    admin.execute(AssertSqlSafe(gone)).await.expect("it can be closed");
    sql.execute(TERMINATE).await.expect("connections can be killed");
    for strategy in STRATEGIES {
        let request = pb::ReserveRequest { options: with(strategy), ..reserve("show", "bob") };
        let status = assert_refused(server.reserve(request).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        assert!(!status.message().contains(&name), "{status:?}");
    }
    let mut events = server.events();
    let read = events.get_event(pb::GetEventRequest { event_id: "show".into() }).await;
    assert_unavailable(&read.expect_err("there is nothing to read from"));
    let event = Some(pb::Event { event_id: "new".into(), capacity: 1, ..Default::default() });
    let create = events.create_event(pb::CreateEventRequest { event, ..Default::default() }).await;
    assert_unavailable(&create.expect_err("there is nothing to write to"));
    eventually("health tells", async || health(&server).await == ServingStatus::NotServing).await;

    let back = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    admin.execute(AssertSqlSafe(back)).await.expect("it can be opened");
    server.reserve(reserve("show", "bob")).await.expect("the first call after is served");
    eventually("health tells", async || health(&server).await == ServingStatus::Serving).await;
    assert_eq!(server.get_event("show").await.counts.unwrap_or_default().held, 2);
    server.check_and_stop().await;
}

/// A server whose connections lead through the proxy, with an event.
async fn behind_a_proxy() -> (TestServer, PgProxy) {
    let database = TestDatabase::new().await;
    let proxy = PgProxy::to(&database).await;
    let server = TestServer::on(database, &patient_and(&[("database.url", proxy.url())])).await;
    server.event("show", 1000).await;
    (server, proxy)
}

#[tokio::test]
async fn while_postgresql_is_away_callers_wait_for_a_second_and_few_connections_are_tried() {
    let (server, proxy) = behind_a_proxy().await;
    for outage in 0..3 {
        proxy.close();
        proxy.cut().await;
        let asked = Instant::now();
        let calls = (0..60).map(async |n: usize| {
            if n % 4 == 3 {
                let read = server.events().get_event(pb::GetEventRequest { event_id: "show".into() }).await;
                return assert_unavailable(&read.expect_err("there is nothing to read from"));
            }
            let options = by_turns(&STRATEGIES, n);
            let request = pb::ReserveRequest { options, ..reserve("show", &format!("{outage}-{n}")) };
            assert_unavailable(&server.reserve(request).await.expect_err("there is nothing to write to"));
        });
        all(calls).await;
        let (waited, tried) = (asked.elapsed(), proxy.refused());
        assert!(waited < Duration::from_secs(10), "{waited:?} of a minute");
        assert!(tried < 100, "{tried} connections");
        eventually("health tells", async || health(&server).await == ServingStatus::NotServing).await;

        let tried = proxy.refused();
        let wait = async {
            eventually("a connection is tried again", async || proxy.refused() > tried).await;
            proxy.open();
        };
        let (answer, ()) = tokio::join!(server.reserve(reserve("show", &format!("{outage}"))), wait);
        answer.expect("a call that waits when it comes back is served");
        eventually("health tells", async || health(&server).await == ServingStatus::Serving).await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_when_postgresql_is_back() {
    for strategy in STRATEGIES {
        let (server, proxy) = behind_a_proxy().await;
        let stall = server.stall_commits_of("ann").await;
        let request =
            pb::ReserveRequest { request_id: "ann".into(), options: with(strategy), ..reserve("show", "ann") };
        let mut client = server.reservations();
        let call = tokio::spawn(async move { client.reserve(request).await });
        server.commit_is_stalled().await;
        proxy.silence();
        proxy.close();
        stall.release().await;
        eventually("it is committed", async || server.history("show", Some("ann")).await.len() == 1).await;
        proxy.cut().await;
        // The service gives up on a call of another event and another strategy: a second has passed.
        let other = pb::ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("other", "bob") };
        assert_refused(server.reserve(other).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        assert!(!call.is_finished(), "it waits until its deadline");

        proxy.open();
        let answer = soon("it is settled", call).await.expect("no panic").expect("it was committed").into_inner();
        assert!(answer.execution.is_some_and(|execution| execution.replayed));
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn a_full_pool_is_no_outage_and_leaves_background_work_its_connections() {
    // Two of these are for mutations.
    let settings = [("database.max_connections", "3"), ("server.default_deadline", "60s")];
    let server = TestServer::with(&settings).await;
    for event_id in ["locked", "show"] {
        server.event(event_id, 10).await;
    }
    server.reserve(reserve("show", "ann")).await.expect("there is room");
    let row = server.hold_row("locked").await;
    let calls = ["ann", "bob"].map(|user| {
        let (mut client, options) = (server.reservations(), with(ExecutionStrategy::Pessimistic));
        tokio::spawn(async move { client.reserve(pb::ReserveRequest { options, ..reserve("locked", user) }).await })
    });
    server.waiting(calls.len()).await;
    let mut sql = server.sql().await;
    let full_since: String = scalar(&mut sql, "SELECT clock_timestamp()::text").await;
    let more =
        server.reserve(pb::ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("show", "bob") });
    assert_refused(more.await, Code::ResourceExhausted, "OVERLOADED");

    server.lapse_holds("show").await;
    let expired = async || server.history("show", Some("ann")).await == ["HELD", "EXPIRED"];
    eventually("lapsed holds are released", expired).await;
    let pinged = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                           AND query LIKE '-- events::now%' AND query_start > '{full_since}')"
    );
    eventually("the database is pinged", async || scalar(&mut sql, &pinged).await).await;
    assert_eq!(health(&server).await, ServingStatus::Serving);
    row.release().await;
    for call in calls {
        call.await.expect("no panic").expect("there is room");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn what_an_operator_cancels_is_repeated() {
    let server = TestServer::with(&patient_and(&[("expiry.interval", "1h")])).await;
    for strategy in STRATEGIES {
        server.event(strategy.as_str_name(), 100).await;
    }
    // Twelve while they wait for the row: four PESSIMISTIC ones, four OPTIMISTIC ones, and a batch. Three in their
    // commits, one for each event: of several, the next would have the row as soon as the first is cancelled, and the
    // cancellation would find it between two statements.
    for (round, calls, statements) in [("row", 12, 9), ("commit", 3, 3)] {
        let (row, commits) = match round {
            "row" => (Some(server.stall(EVERY_ROW).await), None),
            _ => (None, Some(server.hold_commits().await)),
        };
        let calls = (0..calls).map(async |n: usize| {
            let strategy = STRATEGIES[n % 3];
            let options = with(strategy);
            let request = pb::ReserveRequest { options, ..reserve(strategy.as_str_name(), &format!("{round}-{n}")) };
            server.reserve(request).await.expect("it is repeated")
        });
        let cancel = async {
            cancel_waiting(&server, statements).await;
            if let Some(row) = row {
                row.release().await;
            }
            if let Some(commits) = commits {
                commits.release().await;
            }
        };
        let (answers, ()) = tokio::join!(all(calls), cancel);
        let repeated = answers.iter().filter(|answer| answer.execution.attempt_count > 1).count();
        assert!(repeated >= statements, "{round}: {repeated}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_read_and_a_creation_that_an_operator_cancels_are_repeated() {
    let server = TestServer::with(&patient_and(&[("expiry.interval", "1h")])).await;
    server.event("show", 100).await;
    let table = server.stall("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await;
    let (read, created, ()) = tokio::join!(server.get_event("show"), server.event("new", 5), async {
        cancel_waiting(&server, 2).await;
        table.release().await;
    });
    assert_eq!((read.capacity, created.capacity), (100, 5));
    server.check_and_stop().await;
}

/// Cancels what waits for a lock, so many at least, and returns when as many wait again.
async fn cancel_waiting(server: &TestServer, at_least: usize) {
    let at_least = i64::try_from(at_least).expect("few");
    let mut sql = server.sql().await;
    let waiting = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'reservd'
                    AND wait_event_type = 'Lock'";
    let count = format!("SELECT count(*) {waiting}");
    eventually("they wait", async || scalar::<i64>(&mut sql, &count).await >= at_least).await;
    let since: String = scalar(&mut sql, "SELECT clock_timestamp()::text").await;
    let canceled: i64 = scalar(&mut sql, &format!("SELECT count(pg_cancel_backend(pid)) {waiting}")).await;
    assert!(canceled >= at_least);
    let again = format!("{count} AND query_start > '{since}'");
    eventually("they wait again", async || scalar::<i64>(&mut sql, &again).await >= at_least).await;
}

async fn scalar<T>(sql: &mut PgConnection, statement: &str) -> T
where
    T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
{
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(sql).await.expect("it can be read")
}

async fn health(server: &TestServer) -> ServingStatus {
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(server.channel()).check(request).await.expect("health checks are always answered");
    answer.into_inner().status()
}
