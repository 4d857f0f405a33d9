//! Listing events: filters, order, pages.

use std::collections::BTreeSet;

use reservd::rpc::pb::{self, *};

use super::{at, create, event};
use crate::support::TestServer;

async fn ids(server: &TestServer, request: ListEventsRequest) -> Vec<String> {
    let page = server.events().list_events(request).await.expect("a page").into_inner();
    page.events.into_iter().map(|event| event.event_id).collect()
}

#[tokio::test]
async fn events_are_filtered_and_ordered_by_start_then_id() {
    let server = TestServer::start().await;
    let events = [
        ("z-none", None, "s1", "v1"),
        ("a-none", None, "", ""),
        ("late", at(300), "s1", "v2"),
        ("b", at(200), "s1", "v1"),
        ("a", at(200), "s2", "v1"),
        ("early", at(-100), "", "v1"),
    ];
    for (id, start_time, series, venue) in events {
        let event = pb::Event { start_time, series_id: series.into(), venue_id: venue.into(), ..event(id, 1) };
        server.event_with(event).await;
    }
    let id = |id: &str| id.to_owned();
    server.events().close_event(CloseEventRequest { event_id: id("b"), ..Default::default() }).await.expect("closed");
    server.events().cancel_event(CancelEventRequest { event_id: id("late"), ..Default::default() }).await.expect("off");
    let all = ListEventsRequest::default;
    let states = |states: &[EventState]| states.iter().map(|state| i32::from(*state)).collect();
    let cases: Vec<(ListEventsRequest, &[&str])> = vec![
        (all(), &["early", "a", "b", "late", "a-none", "z-none"]),
        (ListEventsRequest { series_id: id("s1"), ..all() }, &["b", "late", "z-none"]),
        (ListEventsRequest { venue_id: id("v1"), ..all() }, &["early", "a", "b", "z-none"]),
        (ListEventsRequest { series_id: id("s1"), venue_id: id("v1"), ..all() }, &["b", "z-none"]),
        (ListEventsRequest { series_id: id("nothing"), ..all() }, &[]),
        (ListEventsRequest { states: states(&[EventState::Closed]), ..all() }, &["b"]),
        (ListEventsRequest { states: states(&[EventState::Closed, EventState::Cancelled]), ..all() }, &["b", "late"]),
        (ListEventsRequest { start_time_from: at(200), ..all() }, &["a", "b", "late"]),
        (ListEventsRequest { start_time_before: at(200), ..all() }, &["early"]),
        (ListEventsRequest { start_time_from: at(200), start_time_before: at(300), ..all() }, &["a", "b"]),
        (ListEventsRequest { start_time_from: at(300), start_time_before: at(200), ..all() }, &[]),
    ];
    for (request, expected) in cases {
        assert_eq!(ids(&server, request.clone()).await, expected, "{request:?}");
        // Paging returns the same events, with and without a start time.
        let (mut walked, mut token) = (Vec::new(), String::new());
        loop {
            let request = ListEventsRequest { page_size: 1, page_token: token, ..request.clone() };
            let page = server.events().list_events(request).await.expect("a page").into_inner();
            walked.extend(page.events.into_iter().map(|event| event.event_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            assert!(walked.len() < 100, "the walk has no end: {walked:?}");
        }
        assert_eq!(walked, expected);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_page_has_a_hundred_events_by_default() {
    let server = TestServer::start().await;
    let batch = |range: std::ops::Range<i32>| BatchCreateEventsRequest {
        requests: range.map(|n| create(event(&format!("e{n:03}"), 1))).collect(),
        ..Default::default()
    };
    server.events().batch_create_events(batch(0..100)).await.expect("created");
    let page = server.events().list_events(ListEventsRequest::default()).await.expect("a page").into_inner();
    assert_eq!((page.events.len(), page.next_page_token.as_str()), (100, ""), "exactly full is the last");
    server.events().batch_create_events(batch(100..101)).await.expect("created");
    let page = server.events().list_events(ListEventsRequest::default()).await.expect("a page").into_inner();
    assert_eq!((page.events.len(), page.next_page_token.is_empty()), (100, false));
    let large = ListEventsRequest { page_size: 1000, ..Default::default() };
    assert_eq!(ids(&server, large).await.len(), 101);
    server.check_and_stop().await;
}

#[tokio::test]
async fn paging_while_events_are_created_repeats_and_skips_nothing() {
    let server = TestServer::start().await;
    let start = |n: i64| if n % 5 == 0 { None } else { at(n / 3) };
    let new = |n: i64| create(pb::Event { start_time: start(n), ..event(&format!("e{n:03}"), 1) });
    let there = BatchCreateEventsRequest { requests: (0..60).map(|n| new(n * 2)).collect(), ..Default::default() };
    server.events().batch_create_events(there).await.expect("created");
    let (mut walked, mut token, mut next) = (Vec::new(), String::new(), 1);
    loop {
        let request = ListEventsRequest { page_size: 7, page_token: token, ..Default::default() };
        let page = server.events().list_events(request).await.expect("a page").into_inner();
        walked.extend(page.events.into_iter().map(|event| event.event_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert!(walked.len() < 1000, "the walk has no end: {walked:?}");
        // Some before the current page, some after.
        for n in [next, 120 - next] {
            server.events().create_event(new(n)).await.expect("created");
        }
        next += 2;
    }
    let seen: BTreeSet<_> = walked.iter().cloned().collect();
    assert_eq!(seen.len(), walked.len(), "an event was seen twice: {walked:?}");
    let missed: Vec<_> = (0..60).map(|n| format!("e{:03}", n * 2)).filter(|id| !seen.contains(id)).collect();
    assert_eq!(missed, Vec::<String>::new());
    server.check_and_stop().await;
}
