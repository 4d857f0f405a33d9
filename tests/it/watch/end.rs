//! The end of a watch: with a clear reason and the version to resume from, and without leftovers.

use std::time::Duration;

use reservd::rpc::pb::{self, feed_service_client::FeedServiceClient};
use tonic::{Code, Request};

use super::{cancel_event, large, listed, reserve_for};
use crate::support::{TestServer, Watcher, all, assert_refused, eventually, reserve, watch_of};

#[tokio::test]
async fn a_slow_watcher_gets_an_error_and_resumes_where_it_was() {
    let server = TestServer::with(&[("watch.buffer_bytes", "65536")]).await;
    server.event("e", 1000).await;
    // On a connection of its own: its unread data would block all other streams there.
    let mut client = FeedServiceClient::new(server.narrow_channel().await);
    let request = watch_of("e", Some(1));
    let mut slow = Watcher::new(client.watch_changes(request).await.expect("it is kept").into_inner(), 1);
    let (mut quick, _) = server.watch("e").await;
    // Eight times the tail's buffer, besides the data on its way to the slow watcher.
    let load = async {
        for number in 0..100 {
            server.reserve(large("e", &format!("u{number}"))).await.expect("there is room");
        }
    };
    tokio::join!(load, quick.until(101));
    let status = slow.ends_for("WATCH_TOO_SLOW").await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(slow.version < 101, "it can't have got everything: {}", slow.version);
    let mut again = server.watch_after("e", slow.version).await.expect("it is kept");
    again.until(101).await;
    slow.changes.append(&mut again.changes);
    assert_eq!(slow.changes, listed(&server, "e").await[1..]);
    assert_eq!(server.metric("reservd_watch_ends_total{reason=\"WATCH_TOO_SLOW\"}").await, 1.0);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_cancelled_event_ends_its_watches_after_the_last_change() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let (mut watcher, _) = server.watch("e").await;
    reserve_for(&server, "e", ["ann", "bob"]).await;
    cancel_event(&server, "e").await;
    watcher.ends_well().await;
    assert_eq!(watcher.kinds(), ["HELD", "HELD", "CANCELLED", "CANCELLED", "EVENT_CANCELLED"]);
    let (mut late, snapshot) = server.watch("e").await;
    assert_eq!(snapshot.state(), pb::EventState::Cancelled);
    late.ends_well().await;
    let mut past = server.watch_after("e", 0).await.expect("it is kept");
    past.ends_well().await;
    assert_eq!(past.changes, listed(&server, "e").await);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_stop_ends_watches_at_once_with_the_version_to_resume_from() {
    let server = TestServer::with(&[("server.drain_limit", "1h")]).await;
    let twin = server.twin().await;
    server.event("e", 5).await;
    let (mut watcher, _) = server.watch("e").await;
    reserve_for(&server, "e", ["ann"]).await;
    watcher.until(2).await;
    let (status, ()) = tokio::join!(watcher.ends_for("DRAINING"), server.app.stop());
    assert_eq!(status.code(), Code::Unavailable);
    reserve_for(&twin, "e", ["bob"]).await;
    let mut again = twin.watch_after("e", watcher.version).await.expect("it is kept");
    again.until(3).await;
    twin.check_and_stop().await;
}

#[tokio::test]
async fn only_the_callers_own_deadline_ends_a_watch() {
    let settings =
        [("server.default_deadline", "100ms"), ("server.max_deadline", "200ms"), ("watch.heartbeat_interval", "100ms")];
    let server = TestServer::with(&settings).await;
    server.event("e", 5).await;
    let (mut unlimited, _) = server.watch("e").await;
    let mut request = Request::new(watch_of("e", None));
    request.set_timeout(Duration::from_millis(700));
    let limited = server.feed().watch_changes(request).await.expect("it can be watched").into_inner();
    let mut limited = Watcher::new(limited, 0);
    let status = limited.ends_for("DEADLINE").await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    for _ in 0..5 {
        unlimited.receive().await.expect("no error").expect("no end");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn watches_have_a_limit_of_their_own_and_take_no_place_of_calls() {
    let server = TestServer::with(&[("server.max_in_flight", "2"), ("watch.max_watches", "4")]).await;
    server.event("e", 5).await;
    let mut watchers = Vec::new();
    for _ in 0..4 {
        watchers.push(server.watch("e").await.0);
    }
    reserve_for(&server, "e", ["ann"]).await;
    let refused = server.feed().watch_changes(watch_of("e", None)).await.map(|_| ());
    assert_refused(refused, Code::ResourceExhausted, "OVERLOADED");
    assert_eq!(server.metric("reservd_watches").await, 4.0);
    watchers.pop();
    eventually("a place is free", async || server.feed().watch_changes(watch_of("e", None)).await.is_ok()).await;
    for watcher in &mut watchers {
        watcher.until(2).await;
    }
    drop(watchers);
    eventually("all have left", async || server.metric("reservd_watches").await == 0.0).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn changes_deleted_before_they_are_sent_end_the_watch() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    reserve_for(&server, "e", ["ann", "bob"]).await;
    // The tail has begun after these changes and does not read the past: the watcher must read them itself.
    let (mut witness, _) = server.watch("e").await;
    let hole = sqlx::query("DELETE FROM changes WHERE event_id = 'e' AND version = 2");
    hole.execute(&mut server.sql().await).await.expect("changes can be deleted");
    let mut watcher = server.watch_after("e", 0).await.expect("its beginning is kept");
    let status = watcher.failure().await;
    assert_eq!((status.code(), crate::support::reason(&status).as_str()), (Code::OutOfRange, "WATCH_TOO_OLD"));
    reserve_for(&server, "e", ["cid"]).await;
    witness.until(4).await;
    server.app.stop().await;
}

#[tokio::test]
async fn a_watch_survives_an_outage_of_the_database() {
    let server = TestServer::with(&[("watch.poll_interval", "20ms")]).await;
    server.event("e", 50).await;
    let (mut watcher, _) = server.watch("e").await;
    let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'reservd'";
    for round in 0..3 {
        sqlx::query(sessions).execute(&mut server.sql().await).await.expect("sessions can be ended");
        let user = format!("u{round}");
        eventually("it is back", async || {
            let request = pb::ReserveRequest { request_id: user.clone(), ..reserve("e", &user) };
            server.reserve(request).await.is_ok()
        })
        .await;
        watcher.until(round + 2).await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn changes_are_read_once_for_all_watchers() {
    let server = TestServer::with(&[("watch.poll_interval", "1h")]).await;
    server.event("e", 100).await;
    let mut watchers: Vec<_> = all((0..50).map(|_| server.watch("e"))).await.into_iter().map(|it| it.0).collect();
    reserve_for(&server, "e", (0..20).map(|number| format!("u{number}"))).await;
    all(watchers.iter_mut().map(|watcher| watcher.until(21))).await;
    let readings = server.metric("reservd_feed_delay_seconds_count").await;
    assert!(readings <= 20.0, "{readings} readings of 20 changes");
    server.check_and_stop().await;
}
