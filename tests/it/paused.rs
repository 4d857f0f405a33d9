//! A server is paused in the middle of a transaction: PostgreSQL ends the transaction, others go on soon, and the paused
//! server repeats it when it goes on itself.

use std::time::Duration;

use nix::sys::signal::Signal;
use reservd::rpc::pb::{self, ExecutionStrategy};
use tokio::time::Instant;
use tonic::Response;

use crate::support::{
    PATIENT, PgProxy, TestServer, eventually,
    process::{Process, clients},
    reserve, soon, with,
};

/// Pauses a server that reaches the database by `url` while it has the event's row lock; returns for how long that
/// stalled a call of another server.
async fn stall(server: &TestServer, url: &str, event_id: &str, strategy: ExecutionStrategy) -> Duration {
    const WAITING: &str = "
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let of = |user: &str| pb::ReserveRequest { options: with(strategy), ..reserve(event_id, user) };
    server.event(event_id, 10).await;
    let paused = Process::on(url, &["server.default_deadline=60s"]).await;
    let row = server.hold_row(event_id).await;
    let (mut client, request) = (clients(&paused.connect().await).1, of("ann"));
    let call = tokio::spawn(async move { client.reserve(request).await.map(Response::into_inner) });
    server.waiting(1).await;
    let mut sql = server.sql().await;
    paused.signal(Signal::SIGSTOP);
    row.release().await;
    eventually("the paused server has the row", async || {
        sqlx::query_scalar::<_, i64>(WAITING).fetch_one(&mut sql).await.expect("activity is shown") == 0
    })
    .await;

    let asked = Instant::now();
    server.reserve(of("bob")).await.expect("there is room");
    let stall = asked.elapsed();
    paused.signal(Signal::SIGCONT);
    let answer = soon("the paused server goes on", call).await.expect("no panic").expect("it repeats the transaction");
    assert!(answer.execution.expect("the report").attempt_count > 1);
    paused.stop().await;
    stall
}

#[tokio::test]
async fn a_server_that_is_paused_with_a_row_locked_delays_others_by_about_a_second() {
    let server = TestServer::with(&PATIENT).await;
    let proxy = PgProxy::to(&server.database).await;
    // A socket, and TCP: the news that the session has ended arrives in different ways.
    for (way, url) in [("socket", server.database.url.as_str()), ("tcp", proxy.url())] {
        for strategy in [ExecutionStrategy::Pessimistic, ExecutionStrategy::Coalesced] {
            let event_id = format!("{way}-{}", strategy.as_str_name());
            let stall = stall(&server, url, &event_id, strategy).await;
            assert!(stall < Duration::from_secs(4), "{event_id}: {stall:?}");
        }
    }
    server.check_and_stop().await;
}
