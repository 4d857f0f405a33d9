//! SIGTERM: running calls are finished, new ones are refused, and no client delays the stop beyond the drain limit.

use std::{error::Error, time::Duration};

use nix::sys::signal::Signal;
use reservd::rpc::pb;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use tonic_types::StatusExt;

use crate::support::{
    TestDatabase, eventually,
    process::{Process, TempFolder, clients, is_at_rest, logged, program},
    reserve, soon,
};

type Answer = Result<Response<pb::ReserveResponse>, Status>;

async fn create_event(server: &Process) {
    let event = pb::Event { event_id: "show".into(), capacity: 5, ..Default::default() };
    let request = pb::CreateEventRequest { event: Some(event), ..Default::default() };
    clients(&server.connect().await).0.create_event(request).await.expect("the event is created");
}

/// Locks the event's row as another transaction would.
async fn lock_row(sql: &mut PgConnection) {
    sql.execute("BEGIN; SELECT FROM events WHERE event_id = 'show' FOR UPDATE").await.expect("the row is free");
}

async fn count(sql: &mut PgConnection, what: &'static str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {what}"))).fetch_one(sql).await.expect("counted")
}

/// Sends a Reserve that waits for the row's lock, and returns once it does.
async fn blocked_reserve(channel: &Channel, database: &TestDatabase) -> JoinHandle<Answer> {
    let mut client = clients(channel).1;
    let mut request = Request::new(reserve("show", "ann"));
    request.set_timeout(Duration::from_secs(60));
    let call = tokio::spawn(async move { client.reserve(request).await });
    let mut sql = database.connect().await;
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the call waits for the lock", async || count(&mut sql, waiting).await == 1).await;
    call
}

#[tokio::test]
async fn on_sigterm_running_calls_finish_and_new_ones_are_refused() {
    let database = TestDatabase::new().await;
    let server = Process::on(&database.url, &["server.drain_limit=1h"]).await;
    create_event(&server).await;
    let (busy, idle) = (server.connect().await, server.connect().await);
    let mut health = HealthClient::new(server.connect().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("health can be watched").into_inner();
    let first = watch.next().await.expect("a status").expect("no error");
    assert_eq!(first.status(), ServingStatus::Serving);
    let mut locker = database.connect().await;
    lock_row(&mut locker).await;
    let running = blocked_reserve(&busy, &database).await;

    server.signal(Signal::SIGTERM);

    let next = soon("the health watch gets it", watch.next()).await.expect("a status").expect("no error");
    assert_eq!(next.status(), ServingStatus::NotServing);
    eventually("new calls are refused", async || {
        let request = pb::GetEventRequest { event_id: "show".into() };
        match clients(&idle).0.get_event(request).await {
            Ok(_) => false,
            Err(status) => {
                // A status that the client made of a closed connection has a source.
                let reason = status.get_details_error_info().map(|info| info.reason);
                let is_draining = status.code() == Code::Unavailable && reason.as_deref() == Some("DRAINING");
                assert!(is_draining || status.source().is_some(), "{status:?}");
                true
            }
        }
    })
    .await;
    assert!(!running.is_finished(), "it still waits for the lock");
    locker.execute("COMMIT").await.expect("unlocked");
    let answer = soon("the running call ends", running).await.expect("no panic").expect("it is finished");
    let reservation = answer.into_inner().reservation.expect("the reservation");
    // The health watch is still open; it must not delay the stop for an hour.
    server.ends_well().await;
    drop(watch);

    let kept = sqlx::query_scalar("SELECT user_id FROM reservations WHERE reservation_id::text = $1");
    let kept: String = kept.bind(&reservation.reservation_id).fetch_one(&mut locker).await.expect("it was committed");
    assert_eq!(kept, "ann");
}

#[tokio::test]
async fn silent_connections_do_not_delay_the_stop() {
    let database = TestDatabase::new().await;
    // Their own time limit must not be what ends them.
    let server = Process::on(&database.url, &["server.drain_limit=300ms", "server.handshake_timeout=1h"]).await;
    let silent = TcpStream::connect(server.address).await.expect("connected");
    let mut stuttering = TcpStream::connect(server.address).await.expect("connected");
    // The first byte of HTTP/2's preface.
    stuttering.write_all(b"P").await.expect("sent");
    let mut scraping = TcpStream::connect(server.metrics_address()).await.expect("connected");
    scraping.write_all(b"G").await.expect("sent");
    let log = server.stop().await;
    drop((silent, stuttering, scraping));
    assert!(!log.iter().any(|line| line.contains("background work")), "{log:?}");
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut_at_the_drain_limit() {
    let database = TestDatabase::new().await;
    let server = Process::on(&database.url, &["server.drain_limit=300ms"]).await;
    let mut answers = endless_stream(&server).await;
    server.stop().await;
    let end = soon("the stream ends", answers.next()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

#[tokio::test]
async fn a_call_that_waits_for_ever_is_cut_at_the_drain_limit_and_leaves_no_effect() {
    let database = TestDatabase::new().await;
    let server = Process::on(&database.url, &["server.drain_limit=300ms"]).await;
    create_event(&server).await;
    let mut locker = database.connect().await;
    lock_row(&mut locker).await;
    let channel = server.connect().await;
    let call = blocked_reserve(&channel, &database).await;
    server.stop().await;
    let answer = soon("the call is cut", call).await.expect("no panic");
    answer.expect_err("it was never done");
    locker.execute("COMMIT").await.expect("unlocked");
    let sessions = "pg_stat_activity WHERE datname = current_database() AND application_name = 'reservd'";
    eventually("no session is left", async || count(&mut locker, sessions).await == 0).await;
    assert_eq!(count(&mut locker, "reservations").await, 0);
    locker.close().await.expect("closed");
}

/// Opens a stream that never ends by itself.
async fn endless_stream(server: &Process) -> Streaming<ServerReflectionResponse> {
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = tokio_stream::once(asked).chain(tokio_stream::pending());
    let mut reflection = ServerReflectionClient::new(server.connect().await);
    let mut answers = reflection.server_reflection_info(asked).await.expect("reflection is on").into_inner();
    answers.next().await.expect("answered").expect("well");
    answers
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_its_postgresql_in_order() {
    for (signal, expected) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let folder = TempFolder::new();
        let data_dir = folder.path("data");
        let server = Process::embedded(&data_dir, &["server.drain_limit=1h"]).await;
        let stream = endless_stream(&server).await;
        let mut health = HealthClient::new(server.connect().await);
        let mut watch = health.watch(HealthCheckRequest::default()).await.expect("health can be watched").into_inner();
        server.signal(Signal::SIGTERM);
        let stopping = async {
            while let Some(Ok(status)) = watch.next().await {
                if status.status() == ServingStatus::NotServing {
                    return;
                }
            }
        };
        soon("the first signal is heard", stopping).await;
        server.signal(signal);
        let (code, log) = server.ends().await;
        drop(stream);
        assert_eq!(code, Some(expected), "{log:?}");
        let announced = log
            .iter()
            .find_map(|line| logged(line, "stopping: waiting for the calls that run; a second signal stops at once"));
        let announced = announced.unwrap_or_else(|| panic!("nothing is announced: {log:?}"));
        assert!(announced["calls"].as_i64() >= Some(1) && announced["limit"] == "1h", "{announced}");
        assert!(announced["until"].as_str().is_some_and(|until| until.ends_with(" UTC")), "{announced}");
        assert!(log.last().is_some_and(|line| logged(line, "stopped").is_some()), "{log:?}");
        assert!(!log.iter().any(|line| line.contains("did not stop in order")), "{log:?}");
        assert!(is_at_rest(&data_dir), "PostgreSQL still runs");
    }
}

#[tokio::test]
async fn stopped_is_the_last_line() {
    let database = TestDatabase::new().await;
    let log = Process::on(&database.url, &[]).await.stop().await;
    assert!(log.last().is_some_and(|line| logged(line, "stopped").is_some()), "{log:?}");
}

#[tokio::test]
async fn a_stop_while_starting_is_a_stop() {
    let folder = TempFolder::new();
    let data_dir = folder.path("data");
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--set", "server.metrics_listen=", "--data-dir"]);
    let mut child = command.arg(&data_dir).spawn().expect("the program can be started");
    eventually("it makes its database", async || data_dir.join("cluster.partial").exists()).await;
    let pid = nix::unistd::Pid::from_raw(child.id().expect("it runs").cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it can be signalled");
    let status = soon("it ends", child.wait()).await.expect("it can be waited for");
    assert_eq!(status.code(), Some(0));
    Process::embedded(&data_dir, &[]).await.stop().await;
}
