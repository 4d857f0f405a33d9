//! One stream of changes for many events.

use std::collections::HashMap;

use reservd::rpc::pb::{WatchChangesRequest, WatchedEvent};
use tonic::Code;

use crate::support::{TestServer, assert_refused, bad_fields, metadata, reserve, soon};

fn watch(events: &[(&str, Option<i64>)]) -> WatchChangesRequest {
    let watched = |(event_id, after): &(&str, Option<i64>)| WatchedEvent {
        event_id: (*event_id).to_owned(),
        after_version: *after,
    };
    WatchChangesRequest { events: events.iter().map(watched).collect() }
}

#[tokio::test]
async fn one_stream_has_each_event_in_its_own_order() {
    let server = TestServer::start().await;
    let names = ["a", "b", "c", "d"];
    for name in names {
        server.event(name, 100).await;
    }
    let request = watch(&[("a", None), ("b", Some(1)), ("c", Some(0)), ("d", None)]);
    let mut stream = server.feed().watch_changes(request).await.expect("they can be watched").into_inner();
    let load = async {
        for number in 0..30 {
            for name in ["a", "b", "c"] {
                server.reserve(reserve(name, &format!("u{number}"))).await.expect("there is room");
            }
        }
    };
    let mut versions = HashMap::from([("a", 1), ("b", 1), ("c", 0), ("d", 1)]);
    let follow = async {
        while versions.values().sum::<i64>() < 3 * 31 + 1 {
            let message = stream.message().await.expect("no error").expect("no end");
            let Some(seen) = versions.get_mut(message.event_id.as_str()) else { continue };
            for change in &message.changes {
                assert_eq!((&change.event_id, change.version), (&message.event_id, *seen + 1), "in order, once");
                *seen = change.version;
            }
            assert_eq!(message.version, *seen);
            assert!(message.server_time.is_some());
        }
    };
    let ((), ()) = tokio::join!(load, soon("everything arrives", follow));
    assert_eq!(versions["d"], 1);
    assert_eq!(server.metric("reservd_watches").await, 4.0);
    drop(stream);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_stream_goes_on_until_the_last_of_its_events_is_cancelled() {
    let server = TestServer::start().await;
    for name in ["a", "b"] {
        server.event(name, 5).await;
    }
    let request = watch(&[("a", Some(1)), ("b", Some(1))]);
    let mut stream = server.feed().watch_changes(request).await.expect("they can be watched").into_inner();
    for name in ["a", "b"] {
        let cancel = reservd::rpc::pb::CancelEventRequest { event_id: name.into(), ..Default::default() };
        server.events().cancel_event(cancel).await.expect("cancelled");
        let message = soon("it is told", stream.message()).await.expect("no error").expect("no end");
        assert_eq!((message.event_id.as_str(), message.version), (name, 2));
    }
    assert!(soon("it ends", stream.message()).await.expect("well").is_none());
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_watch_that_cannot_begin_names_the_event() {
    let server = TestServer::start().await;
    server.event("a", 5).await;
    let refused = async |events: &[(&str, Option<i64>)], code, why: &str| {
        assert_refused(server.feed().watch_changes(watch(events)).await.map(|_| ()), code, why)
    };
    let status = refused(&[("a", None), ("gone", None)], Code::NotFound, "EVENT_NOT_FOUND").await;
    assert_eq!(metadata(&status)["event_id"], "gone");
    let status = refused(&[("a", Some(9))], Code::OutOfRange, "WATCH_AHEAD").await;
    assert_eq!((metadata(&status)["event_id"].as_str(), metadata(&status)["event_version"].as_str()), ("a", "1"));
    let status = refused(&[], Code::InvalidArgument, "FIELD_INVALID").await;
    assert_eq!(bad_fields(&status), ["events"]);
    let status = refused(&[("a", None), ("a", Some(-1)), (" ", None)], Code::InvalidArgument, "FIELD_INVALID").await;
    let expected = ["events[1].after_version", "events[1].event_id", "events[2].event_id"];
    assert_eq!(bad_fields(&status), expected);
    let many: Vec<String> = (0..257).map(|number| format!("e{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), None)).collect();
    let status = refused(&many, Code::InvalidArgument, "FIELD_INVALID").await;
    assert_eq!(bad_fields(&status), ["events"]);
    server.check_and_stop().await;
}
