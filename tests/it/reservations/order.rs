//! The orders of a user's reservations.

use prost_types::Timestamp;
use reservd::rpc::pb::{self, *};
use tonic::Code;

use super::hold;
use crate::support::{TestServer, assert_refused, bad_fields};

/// The events of Ann's reservations in an order, page by page.
async fn events_of_ann(server: &TestServer, order: ReservationOrder, page_size: i32) -> Vec<String> {
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListReservationsRequest {
            user_id: "ann".into(),
            page_size,
            page_token,
            order: order.into(),
            ..Default::default()
        };
        let page = server.reservations().list_reservations(request).await.expect("a page").into_inner();
        events.extend(page.reservations.into_iter().map(|one| one.event_id));
        if page.next_page_token.is_empty() {
            return events;
        }
        assert!(events.len() < 100, "the walk has no end: {events:?}");
        page_token = page.next_page_token;
    }
}

/// Events that begin at these seconds, with a hold of Ann's and one of Bob's each, in this order.
async fn with_events(events: &[(&str, Option<i64>)]) -> TestServer {
    let server = TestServer::start().await;
    for (event_id, start) in events {
        let start_time = start.map(|seconds| Timestamp { seconds, nanos: 0 });
        let event = pb::Event { event_id: (*event_id).into(), capacity: 9, start_time, ..Default::default() };
        server.event_with(event).await;
        hold(&server, event_id, "ann", 1).await;
        hold(&server, event_id, "bob", 1).await;
    }
    server
}

#[tokio::test]
async fn a_users_reservations_are_ordered_by_event_by_its_time_and_by_age() {
    use ReservationOrder::{EventId, NewestFirst, StartTime, StartTimeDesc, Unspecified};
    let server = with_events(&[
        ("summer", Some(200)),
        ("none-b", None),
        ("winter", Some(300)),
        ("spring", Some(-100)),
        ("august", Some(200)),
        ("none-a", None),
    ])
    .await;
    for (order, expected) in [
        (Unspecified, ["august", "none-a", "none-b", "spring", "summer", "winter"]),
        (EventId, ["august", "none-a", "none-b", "spring", "summer", "winter"]),
        (StartTime, ["spring", "august", "summer", "winter", "none-a", "none-b"]),
        (StartTimeDesc, ["winter", "summer", "august", "spring", "none-b", "none-a"]),
        (NewestFirst, ["none-a", "august", "spring", "winter", "none-b", "summer"]),
    ] {
        for page_size in [0, 1, 2] {
            assert_eq!(events_of_ann(&server, order, page_size).await, expected, "{order:?}, {page_size}");
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_order_belongs_to_a_user_and_a_page_token_to_its_order() {
    let server = with_events(&[("a", Some(1)), ("b", Some(2))]).await;
    let refused = async |request: ListReservationsRequest, why: &str| {
        let answer = server.reservations().list_reservations(request).await;
        assert_refused(answer, Code::InvalidArgument, why)
    };
    let newest = ReservationOrder::NewestFirst.into();
    let of_event = ListReservationsRequest { event_id: "a".into(), order: newest, ..Default::default() };
    assert_eq!(bad_fields(&refused(of_event.clone(), "FIELD_INVALID").await), ["order"]);
    let unknown = ListReservationsRequest { user_id: "ann".into(), order: 99, ..Default::default() };
    assert_eq!(bad_fields(&refused(unknown, "FIELD_INVALID").await), ["order"]);
    let both = ListReservationsRequest { user_id: "ann".into(), ..of_event };
    server.reservations().list_reservations(both).await.expect("of one user");

    let first = ListReservationsRequest { user_id: "ann".into(), page_size: 1, order: newest, ..Default::default() };
    let page = server.reservations().list_reservations(first.clone()).await.expect("a page").into_inner();
    let next = ListReservationsRequest { page_token: page.next_page_token, ..first };
    for order in [ReservationOrder::Unspecified, ReservationOrder::EventId, ReservationOrder::StartTime] {
        refused(ListReservationsRequest { order: order.into(), ..next.clone() }, "PAGE_TOKEN_INVALID").await;
    }
    server.reservations().list_reservations(next).await.expect("the next page");
    server.check_and_stop().await;
}
