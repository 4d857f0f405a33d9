//! The beginning of a watch: now, or after any version whose changes are kept, also on another server.

use tonic::Code;

use super::{cancel, cancel_event, large, listed, reserve_for};
use crate::support::{TestServer, all, assert_refused, bad_fields, eventually, metadata, reserve};

#[tokio::test]
async fn a_watch_begins_with_the_current_event_and_then_sends_every_change() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    server.event("other", 5).await;
    reserve_for(&server, "e", ["ann"]).await;
    let (mut watcher, snapshot) = server.watch("e").await;
    assert_eq!(snapshot, server.get_event("e").await);
    reserve_for(&server, "other", ["ann"]).await;
    reserve_for(&server, "e", ["bob", "cid"]).await;
    cancel(&server, "e", "ann").await;
    let last = watcher.until(5).await;
    assert_eq!(watcher.changes, listed(&server, "e").await[2..]);
    let counts = last.counts.expect("level with the event, it tells what is taken");
    assert_eq!((counts.capacity, counts.held, counts.confirmed, counts.available), (5, 2, 0, 3));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_watch_after_a_version_sends_the_changes_that_followed() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    reserve_for(&server, "e", ["ann", "bob"]).await;
    let whole = listed(&server, "e").await;
    for version in 0..=3 {
        let mut watcher = server.watch_after("e", version).await.expect("it is kept");
        if version < 3 {
            watcher.until(3).await;
        }
        assert_eq!(watcher.changes, whole[usize::try_from(version).expect("small")..], "after {version}");
    }
    // The watch is up to date, so it sends nothing until the next change.
    let mut watcher = server.watch_after("e", 3).await.expect("it is kept");
    reserve_for(&server, "e", ["cid"]).await;
    watcher.until(4).await;
    assert_eq!(watcher.kinds(), ["HELD"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn future_and_invalid_versions_are_refused() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    for version in [2, i64::MAX] {
        let refused = server.watch_after("e", version).await.map(|_| ());
        assert_refused(refused, Code::OutOfRange, "WATCH_AHEAD");
    }
    for version in [-1, i64::MIN] {
        let refused = server.watch_after("e", version).await.map(|_| ());
        let status = assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(bad_fields(&status), ["events[0].after_version"]);
    }
    let refused = server.watch_after("nowhere", 0).await.map(|_| ());
    assert_refused(refused, Code::NotFound, "EVENT_NOT_FOUND");
    let refused = server.watch_after("a b", -1).await.map(|_| ());
    let status = assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&status), ["events[0].after_version", "events[0].event_id"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_version_older_than_the_kept_changes_is_too_old() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    reserve_for(&server, "e", ["ann", "bob", "cid"]).await;
    let forget = sqlx::query("DELETE FROM changes WHERE event_id = 'e' AND version <= 2");
    forget.execute(&mut server.sql().await).await.expect("changes can be deleted");
    for version in [0, 1] {
        let refused = server.watch_after("e", version).await.map(|_| ());
        let status = assert_refused(refused, Code::OutOfRange, "WATCH_TOO_OLD");
        assert_eq!(metadata(&status)["oldest_version"], "3");
    }
    let mut watcher = server.watch_after("e", 2).await.expect("what follows it is kept");
    watcher.until(4).await;
    // The final check takes a history that begins late for a loss.
    server.app.stop().await;
}

#[tokio::test]
async fn a_watch_resumes_on_any_server() {
    let server = TestServer::start().await;
    let twin = server.twin().await;
    server.event("e", 100).await;
    let (mut first, _) = server.watch("e").await;
    reserve_for(&server, "e", (0..10).map(|number| format!("a{number}"))).await;
    first.until(6).await;
    let mut second = twin.watch_after("e", first.version).await.expect("it is kept");
    drop(first);
    // The second server finds the commits of the first by polling.
    reserve_for(&server, "e", (0..10).map(|number| format!("b{number}"))).await;
    second.until(21).await;
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_watch_may_begin_inside_a_batch_of_changes() {
    let server = TestServer::start().await;
    server.event("e", 20).await;
    reserve_for(&server, "e", (0..10).map(|number| format!("u{number}"))).await;
    let (mut witness, _) = server.watch("e").await;
    cancel_event(&server, "e").await;
    witness.receive().await.expect("no error").expect("what happened");
    assert_eq!(witness.version, 22, "ten ends and the event's own, in one message");
    // The witness still watches, so its tail still has the changes in its buffer.
    for version in [10, 11, 12, 16, 21] {
        let mut watcher = server.watch_after("e", version).await.expect("it is kept");
        watcher.ends_well().await;
        assert_eq!(watcher.version, 22, "after {version}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn watches_that_begin_while_the_event_changes_miss_nothing() {
    let server = TestServer::with(&[("watch.min_interval", "0s")]).await;
    server.event("e", 1000).await;
    let load = all((0..8).map(|lane| {
        let server = &server;
        async move { reserve_for(server, "e", (0..40).map(|number| format!("u{lane}-{number}"))).await }
    }));
    let watches = all((0..40).map(|number| {
        let server = &server;
        async move {
            // One after the other, each at another moment of the load.
            eventually("its turn", async || server.get_event("e").await.version >= 8 * number).await;
            let (mut watcher, snapshot) = server.watch("e").await;
            watcher.until(321).await;
            assert_eq!(watcher.changes.first().map_or(322, |first| first.version), snapshot.version + 1);
            watcher
        }
    }));
    let (_, watchers) = tokio::join!(load, watches);
    let whole = listed(&server, "e").await;
    for watcher in watchers {
        assert_eq!(watcher.changes, whole[321 - watcher.changes.len()..]);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_long_past_is_sent_in_messages_that_every_client_accepts() {
    let server = TestServer::start().await;
    server.event("e", 1000).await;
    all((0..200).map(|number| server.reserve(large("e", &format!("u{number}")))))
        .await
        .into_iter()
        .for_each(|answer| drop(answer.expect("there is room")));
    let mut watcher = server.watch_after("e", 0).await.expect("it is kept");
    let mut messages = 0;
    while watcher.version < 201 {
        let message = watcher.receive().await.expect("no error").expect("no end");
        assert!(prost::Message::encoded_len(&message) < 1024 * 1024);
        messages += 1;
    }
    assert!(messages > 1);
    assert_eq!(watcher.changes, listed(&server, "e").await);
    server.check_and_stop().await;
}

#[tokio::test]
async fn only_committed_changes_are_sent() {
    let server = TestServer::with(&[("watch.heartbeat_interval", "100ms"), ("watch.poll_interval", "10ms")]).await;
    server.event("e", 5).await;
    let (mut watcher, _) = server.watch("e").await;
    let commits = server.hold_commits().await;
    let call = server.reserve(reserve("e", "ann"));
    let look = async {
        server.waiting(1).await;
        for _ in 0..3 {
            let heartbeat = watcher.receive().await.expect("no error").expect("no end");
            assert_eq!(heartbeat.event_id, "", "a heartbeat tells the time and nothing else");
        }
        commits.release().await;
        watcher.until(2).await;
    };
    let (answer, ()) = tokio::join!(call, look);
    answer.expect("there is room");
    server.check_and_stop().await;
}
