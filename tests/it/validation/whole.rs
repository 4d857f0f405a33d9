//! Requests whose fields are valid one by one but not together; and requests in which every field is wrong.

use std::collections::BTreeMap;

use prost_types::{FieldMask, Timestamp};
use reservd::rpc::pb::{self, *};
use tonic::Code;

use super::{Case, assert_all_invalid, case};
use crate::support::{TestServer, assert_refused, bad_fields, join, metadata, millis, of_user, reserve, strict};

fn event(event_id: &str) -> pb::Event {
    Event { event_id: event_id.into(), capacity: 1, ..Default::default() }
}

fn create(event: Event) -> CreateEventRequest {
    CreateEventRequest { event: Some(event), ..Default::default() }
}

fn update(event: Event, paths: &[&str]) -> UpdateEventRequest {
    let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
    UpdateEventRequest { event: Some(event), update_mask: Some(mask), ..Default::default() }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn labels(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|n| (format!("k{n}"), String::new())).collect()
}

#[tokio::test]
async fn missing_and_contradictory_fields_are_named() {
    let good = || "good".to_owned();
    let amend = || AmendRequest { event_id: good(), reservation: of_user("ann"), ..Default::default() };
    let unset = Some(ReservationSelector::default());
    let limits = |default, max| {
        Some(EventLimits { hold_ttl_default: millis(default), hold_ttl_max: millis(max), ..Default::default() })
    };
    let cases: Vec<Case> = vec![
        case(ReserveRequest { hold_ttl: millis(1000), confirm: true, ..reserve("good", "bob") }, &["hold_ttl"]),
        case(ReserveRequest { labels: labels(33), ..reserve("good", "bob") }, &["labels"]),
        case(ConfirmRequest { event_id: good(), ..Default::default() }, &["reservation"]),
        case(CancelRequest { event_id: good(), reservation: unset.clone(), ..Default::default() }, &["reservation"]),
        case(ExtendRequest { event_id: good(), reservation: unset.clone(), ..Default::default() }, &["reservation"]),
        case(AmendRequest { reservation: unset.clone(), quantity: Some(1), ..amend() }, &["reservation"]),
        case(GetReservationRequest { event_id: good(), reservation: unset }, &["reservation"]),
        case(amend(), &["update_mask"]),
        case(JoinWaitlistRequest { min_quantity: Some(3), ..join("good", "bob", 2) }, &["min_quantity"]),
        case(JoinWaitlistRequest { labels: labels(33), ..join("good", "bob", 2) }, &["labels"]),
        case(LeaveWaitlistRequest { event_id: good(), ..Default::default() }, &["entry"]),
        case(GetWaitlistEntryRequest { event_id: good(), ..Default::default() }, &["entry"]),
        case(ListWaitlistRequest::default(), &["event_id"]),
        case(
            create(Event { waitlist: Some(WaitlistPolicy { max_skips: Some(2), ..strict() }), ..event("new") }),
            &["event.waitlist.max_skips"],
        ),
        case(
            AmendRequest { update_mask: update(event("e"), &["labels", "user_id"]).update_mask, ..amend() },
            &["update_mask"],
        ),
        case(AmendRequest { update_mask: update(event("e"), &["quantity"]).update_mask, ..amend() }, &["quantity"]),
        case(
            CancelRequest { event_id: good(), reservation: of_user("ann"), quantity: Some(1), ..Default::default() },
            &["request_id"],
        ),
        case(AmendRequest { labels: labels(33), ..amend() }, &["labels"]),
        case(AmendRequest { labels: BTreeMap::from([("No".into(), String::new())]), ..amend() }, &["labels"]),
        case(CreateEventRequest::default(), &["event"]),
        case(create(Event { labels: labels(33), ..event("new") }), &["event.labels"]),
        case(create(Event { start_time: at(10), end_time: at(9), ..event("new") }), &["event.end_time"]),
        case(
            create(Event { booking_open_time: at(9), booking_close_time: at(9), ..event("new") }),
            &["event.booking_close_time"],
        ),
        case(create(Event { limits: limits(2000, 1000), ..event("new") }), &["event.limits.hold_ttl_default"]),
        case(UpdateEventRequest::default(), &["event.event_id", "update_mask"]),
        case(update(event("good"), &["version"]), &["update_mask"]),
        case(update(event("good"), &["capacity", "event_id", "held"]), &["update_mask", "update_mask"]),
        case(update(event("good"), &["labels.k"]), &["update_mask"]),
        case(update(Event { event_id: good(), ..Default::default() }, &[]), &["update_mask"]),
        // The two times contradict each other only together with the event's row.
        case(
            update(Event { start_time: at(10), end_time: at(9), ..event("good") }, &["start_time", "end_time"]),
            &["event.end_time"],
        ),
        case(
            update(Event { limits: limits(2000, 1000), ..event("good") }, &["limits"]),
            &["event.limits.hold_ttl_default"],
        ),
        case(ListReservationsRequest::default(), &["event_id"]),
        case(ListChangesRequest { reservation_id: "x".into(), ..Default::default() }, &["event_id", "reservation_id"]),
        case(ListChangesRequest { event_id: good(), kinds: vec![1; 33], ..Default::default() }, &["kinds"]),
        case(ListEventsRequest { states: vec![1; 17], ..Default::default() }, &["states"]),
    ];
    assert_all_invalid(cases).await;
}

#[tokio::test]
async fn batches_have_1_to_1000_items_each_once() {
    let batch = |requests| BatchCreateEventsRequest { requests, ..Default::default() };
    let five = || ["a", "b", "c", "a", "e"].map(|id| create(event(id))).to_vec();
    // Made from the same request_id, the ids are the same.
    let made = CreateEventRequest { request_id: "r".into(), ..create(event("")) };
    assert_all_invalid(vec![
        case(batch(vec![]), &["requests"]),
        case(batch(vec![create(event("x")); 1001]), &["requests"]),
        case(batch(five()), &["requests[3].event.event_id"]),
        case(batch(vec![made.clone(), made]), &["requests[1].event.event_id"]),
        case(batch(vec![create(event("a")), CreateEventRequest::default()]), &["requests[1].event"]),
        case(BatchGetAvailabilityRequest::default(), &["event_ids"]),
        case(BatchGetAvailabilityRequest { event_ids: vec!["x".into(); 1001] }, &["event_ids"]),
    ])
    .await;
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let bad_time = Some(Timestamp { seconds: 0, nanos: -1 });
    let everything_wrong = Event {
        event_id: " ".into(),
        display_name: "\n".into(),
        series_id: "\0".into(),
        venue_id: "\0".into(),
        start_time: bad_time,
        end_time: bad_time,
        booking_open_time: bad_time,
        booking_close_time: bad_time,
        capacity: -1,
        labels: BTreeMap::from([("k".into(), "\0".into())]),
        limits: Some(EventLimits {
            max_quantity: Some(0),
            max_extensions: Some(-1),
            hold_ttl_default: millis(0),
            hold_ttl_max: millis(0),
        }),
        ..Default::default()
    };
    let paths = [
        "event.event_id",
        "event.display_name",
        "event.series_id",
        "event.venue_id",
        "event.start_time",
        "event.end_time",
        "event.booking_open_time",
        "event.booking_close_time",
        "event.capacity",
        "event.limits.max_quantity",
        "event.limits.max_extensions",
        "event.limits.hold_ttl_default",
        "event.limits.hold_ttl_max",
        "event.labels[k]",
    ];
    let server = TestServer::start().await;
    let mut events = server.events();
    let request = CreateEventRequest { request_id: " ".into(), ..create(everything_wrong.clone()) };
    let status = assert_refused(events.create_event(request).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&status), [&["request_id"], &paths[..]].concat());

    let request = ReserveRequest {
        event_id: String::new(),
        user_id: String::new(),
        quantity: 0,
        hold_ttl: millis(0),
        labels: BTreeMap::from([("k".into(), "\0".into())]),
        expected_event_version: Some(0),
        request_id: " ".into(),
        options: Some(ExecutionOptions { strategy: 9, lock_wait: 9 }),
        ..Default::default()
    };
    let status = server.reservations().reserve(request).await;
    let status = assert_refused(status, Code::InvalidArgument, "FIELD_INVALID");
    let all = [
        "options.strategy",
        "options.lock_wait",
        "event_id",
        "user_id",
        "quantity",
        "hold_ttl",
        "labels[k]",
        "expected_event_version",
        "request_id",
    ];
    assert_eq!(bad_fields(&status), all);
    server.check_and_stop().await;
}

/// A status travels in headers, and clients limit their size: violations that do not fit are counted.
#[tokio::test]
async fn violations_that_do_not_fit_into_a_status_are_counted() {
    let server = TestServer::start().await;
    let (mut events, mut reservations) = (server.events(), server.reservations());
    let bad = Event { event_id: " ".into(), capacity: -1, ..Default::default() };
    let request = BatchCreateEventsRequest { requests: vec![create(bad); 1000], ..Default::default() };
    let status = assert_refused(events.batch_create_events(request).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(
        bad_fields(&status)[..3],
        ["requests[0].event.event_id", "requests[0].event.capacity", "requests[1].event.event_id"]
    );
    let unlisted: usize = metadata(&status)["unlisted"].parse().expect("a number");
    assert_eq!(bad_fields(&status).len() + unlisted, 2000);

    let hostile_keys = (0..5000).map(|n| (format!("{n}{}", "\u{10ffff}".repeat(40)), String::new())).collect();
    let request = ReserveRequest { labels: hostile_keys, ..reserve("good", "bob") };
    assert_refused(reservations.reserve(request).await, Code::InvalidArgument, "FIELD_INVALID");

    for path in ["\0".repeat(900_000), "é".repeat(500_000), "x".repeat(900_000)] {
        let request = update(event("good"), &[&path]);
        assert_refused(events.update_event(request).await, Code::InvalidArgument, "FIELD_INVALID");
    }
    server.check_and_stop().await;
}
