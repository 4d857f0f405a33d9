//! `reservd event` and `reservd top`.

use reservd::rpc::pb::{Event, EventState};

use super::{bad, good, json, on};
use crate::support::{TestServer, reserve};

const HAMLET: &[&str] = &[
    "event",
    "create",
    "hamlet",
    "--capacity",
    "9",
    "--display-name",
    "Hamlet",
    "--start-time",
    "2030-05-01T19:30:00+02:00",
    "--label",
    "genre=drama",
];

const HEADER: &str = "EVENT   STATE  START                    CAPACITY  HELD  CONFIRMED  FREE  WAITING  NAME\n";

#[tokio::test]
async fn an_event_is_made_listed_and_shown() {
    let server = TestServer::start().await;
    let row = "hamlet  OPEN   2030-05-01 17:30:00 UTC         9     0          0     9        0  Hamlet\n";
    assert_eq!(good(&server, HAMLET).await, format!("{HEADER}{row}"));
    assert_eq!(good(&server, &["event", "list"]).await, format!("{HEADER}{row}"));

    let shown = good(&server, &["event", "show", "hamlet"]).await;
    for line in ["capacity  ", "label.genre  ", "start_time  ", "etag  "] {
        assert!(shown.lines().any(|found| found.starts_with(line.trim())), "no {line} in {shown}");
    }
    assert!(shown.contains("drama") && !shown.contains("venue_id"), "{shown}");
    let shown = json(&server, &["event", "show", "hamlet"]).await;
    assert_eq!((shown[0]["eventId"].as_str(), shown[0]["counts"]["held"].as_i64()), (Some("hamlet"), Some(0)));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_list_is_filtered_and_limited() {
    let server = TestServer::start().await;
    for id in ["a", "b", "c"] {
        server.event(id, 1).await;
    }
    good(&server, &["event", "close", "b"]).await;
    for (arguments, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&["--state", "open"], &["a", "c"]),
        (&["--limit", "2"], &["a", "b"]),
        (&["--venue", "hall"], &[]),
    ] {
        let events = json(&server, &[&["event", "list"], arguments].concat()).await;
        let ids: Vec<_> = events.iter().filter_map(|event| event["eventId"].as_str()).collect();
        assert_eq!(ids, expected, "{arguments:?}");
        let table = good(&server, &[&["event", "list"], arguments].concat()).await;
        let ids: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(ids, expected, "{arguments:?}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let server = TestServer::start().await;
    good(
        &server,
        &[HAMLET, &["--label", "hall=blue", "--waitlist-enabled", "true", "--waitlist-max-size", "7"]].concat(),
    )
    .await;
    good(&server, &["event", "update", "hamlet", "--capacity", "12", "--display-name", "", "--label", "genre=tragedy"])
        .await;
    good(&server, &["event", "update", "hamlet", "--remove-label", "hall", "--waitlist-max-size", "8"]).await;
    let event = server.get_event("hamlet").await;
    assert_eq!((event.capacity, event.display_name.as_str()), (12, ""));
    assert_eq!(event.labels.into_iter().collect::<Vec<_>>(), [("genre".to_owned(), "tragedy".to_owned())]);
    let waitlist = event.waitlist.expect("it has one");
    assert_eq!((waitlist.enabled, waitlist.max_size), (true, Some(8)));
    assert!(event.start_time.is_some());

    let (code, line) = bad(&server, &["event", "update", "hamlet", "--capacity", "1", "--etag", "v1"]).await;
    assert_eq!(code, 1, "{line}");
    assert!(line.ends_with("(ETAG_MISMATCH); read it again, and decide again"), "{line}");
    let (code, line) = bad(&server, &["event", "update", "hamlet"]).await;
    assert_eq!((code, line.as_str()), (1, "there is nothing to change; name a field, such as --capacity 100"));
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_is_closed_opened_and_cancelled() {
    let server = TestServer::start().await;
    good(&server, HAMLET).await;
    good(&server, &["event", "close", "hamlet"]).await;
    assert_eq!(server.get_event("hamlet").await.state(), EventState::Closed);
    good(&server, &["event", "open", "hamlet"]).await;
    server.reservations().reserve(reserve("hamlet", "ann")).await.expect("it is open");
    let dry = on(&server, &["event", "cancel", "hamlet", "--reason", "ill", "--dry-run"]).await;
    assert_eq!(dry.err, "dry run: nothing was changed\n1 reservation cancelled, 0 of the waitlist ended\n");
    assert_eq!(server.get_event("hamlet").await.state(), EventState::Open);
    let cancelled = json(&server, &["event", "cancel", "hamlet", "--reason", "ill"]).await;
    assert_eq!(cancelled[0]["cancelledReservationCount"], 1);
    let Event { cancel_reason, .. } = server.get_event("hamlet").await;
    assert_eq!(cancel_reason, "ill");
    let (code, line) = bad(&server, &["event", "open", "hamlet"]).await;
    assert_eq!((code, line.as_str()), (3, "the event is CANCELLED (EVENT_STATE_CONFLICT)"));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_repeated_request_id_finds_the_first_result() {
    let server = TestServer::start().await;
    let create = [HAMLET, &["--request-id", "order-7"]].concat();
    good(&server, &create).await;
    let again = on(&server, &create).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(again.err, "this is the first result of request_id order-7 again: nothing was changed now\n");
    let again = json(&server, &create).await;
    assert_eq!(
        (again[0]["requestId"].as_str(), again[0]["execution"]["replayed"].as_bool()),
        (Some("order-7"), Some(true))
    );

    // What the first one has merged is there already when the second one reads it.
    let shown = json(&server, &["event", "show", "hamlet"]).await;
    let etag = shown[0]["etag"].as_str().expect("it has one");
    let update = ["event", "update", "hamlet", "--label", "a=b", "--request-id", "u-1", "--etag", etag];
    good(&server, &update).await;
    assert_eq!(json(&server, &update).await[0]["execution"]["replayed"], true);

    let made = json(&server, &["event", "create", "other", "--capacity", "1"]).await;
    assert!(made[0]["requestId"].as_str().is_some_and(|id| id.len() == 36), "{made:?}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = TestServer::start().await;
    let dry = on(&server, &[HAMLET, &["--dry-run"]].concat()).await;
    assert_eq!((dry.code, dry.err.as_str()), (Some(0), "dry run: nothing was changed\n"));
    assert!(dry.out.contains("hamlet"), "{dry:?}");
    let (code, line) = bad(&server, &["event", "show", "hamlet"]).await;
    assert_eq!(
        (code, line.as_str()),
        (3, "there is no event hamlet (EVENT_NOT_FOUND); `reservd event list` has them all")
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let server = TestServer::start().await;
    let (code, line) = bad(&server, &["event", "create", "no blanks", "--capacity=-1"]).await;
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("event_id") && line.contains("capacity") && line.ends_with("(FIELD_INVALID)"), "{line}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn top_has_the_busiest_event_first_and_then_the_fullest() {
    let server = TestServer::start().await;
    for id in ["empty", "full", "half"] {
        server.event(id, 2).await;
    }
    for (event, user) in [("full", "ann"), ("full", "bob"), ("half", "ann")] {
        server.reservations().reserve(reserve(event, user)).await.expect("there is room");
    }
    let ids = |table: &str| -> Vec<_> {
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let table = good(&server, &["top"]).await;
    assert_eq!(ids(&table), ["full", "half", "empty"], "{table}");
    assert!(table.contains("100%") && table.contains("50%"), "{table}");
    assert_eq!(ids(&good(&server, &["top", "-n", "1"]).await), ["full"]);
    let looks = json(&server, &["top", "--count", "2", "--interval", "10ms"]).await;
    assert_eq!(looks.len(), 6, "three events, two looks");
    server.check_and_stop().await;
}
