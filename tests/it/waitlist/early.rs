//! Joining before booking opens.

use prost_types::FieldMask;
use reservd::rpc::pb::{self, *};
use tonic::Code::FailedPrecondition;

use crate::support::{STRATEGIES, TestServer, assert_refused, eventually, join, strict, with};

fn early() -> WaitlistPolicy {
    WaitlistPolicy { join_before_booking: true, ..strict() }
}

/// An event of two units that opens long after the test.
async fn not_yet_open(server: &TestServer, event_id: &str, waitlist: WaitlistPolicy) -> pb::Event {
    let booking_open_time = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
    let event_id = event_id.to_owned();
    let event = pb::Event { event_id, capacity: 2, booking_open_time, waitlist: Some(waitlist), ..Default::default() };
    server.event_with(event).await
}

#[tokio::test]
async fn users_join_before_booking_opens_where_the_event_allows_it() {
    for strategy in STRATEGIES {
        let server = TestServer::start().await;
        let wait =
            |event_id: &str, user: &str| JoinWaitlistRequest { options: with(strategy), ..join(event_id, user, 1) };
        not_yet_open(&server, "usual", strict()).await;
        assert_refused(server.join(wait("usual", "ann")).await, FailedPrecondition, "EVENT_NOT_OPEN");
        let made = not_yet_open(&server, "early", early()).await;
        assert!(made.waitlist.expect("it has one").join_before_booking);
        for user in ["ann", "bob", "cid"] {
            server.join(wait("early", user)).await.expect("it may");
        }
        assert_eq!(server.promoted("early").await, Vec::<String>::new());
        let closed = CloseEventRequest { event_id: "early".into(), ..Default::default() };
        server.events().close_event(closed).await.expect("it was open");
        assert_refused(server.join(wait("early", "dan")).await, FailedPrecondition, "EVENT_NOT_OPEN");
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn when_booking_opens_those_who_waited_come_first() {
    let server = TestServer::with(&[("waitlist.promotion_interval", "10ms")]).await;
    for event_id in ["by-clock", "by-update"] {
        not_yet_open(&server, event_id, early()).await;
        for user in ["ann", "bob", "cid"] {
            server.join(join(event_id, user, 1)).await.expect("it may");
        }
    }
    let opens = "UPDATE events SET booking_open_time = now() WHERE event_id = 'by-clock'";
    sqlx::query(opens).execute(&mut server.sql().await).await.expect("it can be moved");
    eventually("the first two are promoted", async || server.promoted("by-clock").await == ["ann", "bob"]).await;

    let event = Some(pb::Event { event_id: "by-update".into(), ..Default::default() });
    let update_mask = Some(FieldMask { paths: vec!["booking_open_time".into()] });
    let update = UpdateEventRequest { event, update_mask, ..Default::default() };
    server.events().update_event(update).await.expect("it can be opened");
    assert_eq!(server.promoted("by-update").await, ["ann", "bob"], "in the same step");
    server.check_and_stop().await;
}
