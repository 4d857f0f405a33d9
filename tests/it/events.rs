//! Events: created, read, listed, updated, cancelled and audited.

mod audit;
mod closing;
mod list;
mod update;

use prost_types::Timestamp;
use reservd::rpc::pb::{self, *};
use tonic::Code;

use crate::support::{TestServer, assert_refused, metadata, of_user, reserve};

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn event(event_id: &str, capacity: i32) -> pb::Event {
    pb::Event { event_id: event_id.into(), capacity, ..Default::default() }
}

fn create(event: pb::Event) -> CreateEventRequest {
    CreateEventRequest { event: Some(event), ..Default::default() }
}

#[tokio::test]
async fn an_event_reads_as_it_was_created() {
    let server = TestServer::start().await;
    let written = pb::Event {
        display_name: "Ein Konzert \u{1f3bb}".into(),
        series_id: "s".into(),
        venue_id: "v".into(),
        start_time: Some(Timestamp { seconds: -62_135_596_800, nanos: 1000 }),
        end_time: Some(Timestamp { seconds: 253_402_300_799, nanos: 999_999_000 }),
        booking_open_time: at(1),
        booking_close_time: at(2),
        labels: [("shop/order".to_owned(), "\"7\" or $1".to_owned())].into(),
        limits: Some(EventLimits {
            max_quantity: Some(7),
            hold_ttl_default: crate::support::millis(100),
            hold_ttl_max: crate::support::millis(30 * 24 * 3_600_000),
            max_extensions: Some(0),
        }),
        ..event("e", 1_000_000_000)
    };
    // Output-only fields of a client are ignored.
    let lies = pb::Event {
        counts: None,
        version: 9,
        state: EventState::Cancelled.into(),
        etag: "x".into(),
        ..written.clone()
    };
    let made = server.event_with(lies).await;
    let read = server.get_event("e").await;
    assert_eq!(made, read);
    let expected = pb::Event {
        state: EventState::Open.into(),
        counts: Some(EventCounts { capacity: 1_000_000_000, available: 1_000_000_000, ..Default::default() }),
        version: 1,
        definition_version: 1,
        etag: "e1".into(),
        create_time: made.create_time,
        update_time: made.create_time,
        ..written
    };
    assert_eq!(read, expected);
    server.check_and_stop().await;
}

#[tokio::test]
async fn unset_limits_take_the_documented_defaults_and_adapt_to_each_other() {
    let server = TestServer::start().await;
    let limits = async |id: &str, ttl: Option<i64>, max: Option<i64>| {
        let limits = EventLimits {
            hold_ttl_default: ttl.and_then(crate::support::millis),
            hold_ttl_max: max.and_then(crate::support::millis),
            ..Default::default()
        };
        let made = server.event_with(pb::Event { limits: Some(limits), ..event(id, 1) }).await.limits.expect("limits");
        let seconds = |span: Option<prost_types::Duration>| span.expect("a span").seconds;
        (seconds(made.hold_ttl_default), seconds(made.hold_ttl_max))
    };
    assert_eq!(limits("neither", None, None).await, (600, 3600));
    assert_eq!(limits("short-max", None, Some(60_000)).await, (60, 60));
    assert_eq!(limits("long-max", None, Some(7_200_000)).await, (600, 7200));
    assert_eq!(limits("long-default", Some(7_200_000), None).await, (7200, 7200));
    assert_eq!(limits("both", Some(1000), Some(1000)).await, (1, 1));
    let made = server.get_event("neither").await.limits.expect("limits");
    assert_eq!((made.max_quantity, made.max_extensions), (Some(10_000), Some(3)));
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_without_an_id_gets_one_that_its_request_id_finds_again() {
    let server = TestServer::start().await;
    let mut events = server.events();
    let request = CreateEventRequest { request_id: "r".into(), ..create(event("", 5)) };
    let first = events.create_event(request.clone()).await.expect("created").into_inner();
    let id = first.event.clone().expect("it").event_id;
    assert!(!first.execution.unwrap_or_default().replayed && !id.is_empty());
    server.reservations().reserve(reserve(&id, "ann")).await.expect("there is room");
    let again = events.create_event(request.clone()).await.expect("answered again").into_inner();
    assert!(again.execution.unwrap_or_default().replayed);
    assert_eq!(again.event, first.event, "as it was when created");
    let other = CreateEventRequest { start_closed: true, ..request };
    assert_refused(events.create_event(other).await, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    let anonymous = events.create_event(create(event("", 5))).await.expect("created").into_inner();
    assert_ne!(anonymous.event.expect("it").event_id, id);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_batch_is_created_whole_or_not_at_all() {
    let server = TestServer::start().await;
    let mut events = server.events();
    let batch = |ids: &[&str]| {
        let one = |id: &&str| CreateEventRequest { request_id: "import".into(), ..create(event(id, 5)) };
        BatchCreateEventsRequest { requests: ids.iter().map(one).collect(), ..Default::default() }
    };
    let made = events.batch_create_events(batch(&["c", "a", "b"])).await.expect("created").into_inner();
    let order: Vec<_> = made.events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!((order, made.replayed_count), (vec!["c", "a", "b"], 0));
    let more = events.batch_create_events(batch(&["d", "a", "e", "b"])).await.expect("created").into_inner();
    let order: Vec<_> = more.events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!((order, more.replayed_count), (vec!["d", "a", "e", "b"], 2));

    // Without the request_id they are another caller's.
    let strangers = BatchCreateEventsRequest {
        requests: ["x", "a", "y", "b"].map(|id| create(event(id, 5))).to_vec(),
        ..Default::default()
    };
    let status = assert_refused(events.batch_create_events(strangers).await, Code::AlreadyExists, "EVENT_EXISTS");
    assert_eq!(metadata(&status)["event_ids"], "a,b");
    for id in ["x", "y"] {
        let gone = events.get_event(GetEventRequest { event_id: id.into() }).await;
        assert_refused(gone, Code::NotFound, "EVENT_NOT_FOUND");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_opens_closes_and_is_cancelled_with_all_its_reservations() {
    let server = TestServer::start().await;
    let (mut events, mut client) = (server.events(), server.reservations());
    let request = CreateEventRequest { start_closed: true, ..create(event("e", 9)) };
    assert_eq!(
        events.create_event(request).await.expect("created").into_inner().event.expect("it").state(),
        EventState::Closed
    );
    let opened = events
        .open_event(OpenEventRequest {
            event_id: "e".into(),
            etag: "e1".into(),
            request_id: "o".into(),
            ..Default::default()
        })
        .await;
    assert_eq!(opened.expect("opened").into_inner().event.expect("it").state(), EventState::Open);
    for user in ["ann", "bob", "cid", "dan"] {
        client.reserve(ReserveRequest { quantity: 2, ..reserve("e", user) }).await.expect("there is room");
    }
    let of = |user: &str| ConfirmRequest { event_id: "e".into(), reservation: of_user(user), ..Default::default() };
    client.confirm(of("bob")).await.expect("confirmed");
    let early =
        CancelRequest { event_id: "e".into(), reservation: of_user("dan"), reason: "ill".into(), ..Default::default() };
    client.cancel(early).await.expect("cancelled");

    let call_off = CancelEventRequest {
        event_id: "e".into(),
        reason: "rain".into(),
        request_id: "c".into(),
        ..Default::default()
    };
    let done = events.cancel_event(call_off.clone()).await.expect("called off").into_inner();
    assert_eq!((done.cancelled_reservation_count, done.execution.unwrap_or_default().replayed), (3, false));
    let now = done.event.clone().expect("it");
    assert_eq!(
        (
            now.state(),
            now.counts.unwrap_or_default().held,
            now.counts.unwrap_or_default().confirmed,
            &*now.cancel_reason
        ),
        (EventState::Cancelled, 0, 0, "rain")
    );
    // Created, opened, 4 reserved, confirmed, cancelled: 8; then 3 reservations, then the event.
    assert_eq!(now.version, 12);
    assert_eq!(server.get_event("e").await, now);
    let again = events.cancel_event(call_off).await.expect("answered again").into_inner();
    assert_eq!(
        (again.event, again.cancelled_reservation_count, again.execution.unwrap_or_default().replayed),
        (done.event, 3, true)
    );
    for (user, reason) in [("ann", "rain"), ("bob", "rain"), ("cid", "rain"), ("dan", "ill")] {
        let found =
            client.get_reservation(GetReservationRequest { event_id: "e".into(), reservation: of_user(user) }).await;
        let found = found.expect("it stays").into_inner().reservation.expect("it");
        assert_eq!((found.state(), &*found.cancel_reason, found.quantity), (ReservationState::Cancelled, reason, 2));
    }
    server.check_and_stop().await;
}
