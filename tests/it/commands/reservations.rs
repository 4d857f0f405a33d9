//! `reservd reservation` and `reservd waitlist`.

use reservd::rpc::pb::{Event, WaitlistPolicy};

use super::{bad, good, json, on};
use crate::support::{TestServer, join};

#[tokio::test]
async fn a_reservation_lives_from_hold_to_cancellation() {
    let server = TestServer::start().await;
    server.event("hamlet", 5).await;
    let held = json(
        &server,
        &["reservation", "reserve", "hamlet", "ann", "--quantity", "3", "--ttl", "5m", "--label", "row=7"],
    )
    .await;
    let reservation = &held[0]["reservation"];
    assert_eq!(
        (reservation["state"].as_str(), reservation["labels"]["row"].as_str()),
        (Some("RESERVATION_STATE_HELD"), Some("7"))
    );
    let id = reservation["reservationId"].as_str().expect("it has one").to_owned();

    let extended = json(&server, &["reservation", "extend", "hamlet", "ann", "--ttl", "10m"]).await;
    assert_eq!(extended[0]["reservation"]["extensionCount"], 1);
    let confirmed = good(&server, &["reservation", "confirm", "hamlet", "--id", &id, "--quantity", "2"]).await;
    let cells: Vec<_> = confirmed.lines().nth(1).expect("a row").split_whitespace().take(4).collect();
    assert_eq!(cells, ["hamlet", "ann", "2", "CONFIRMED"]);
    let shown = good(&server, &["reservation", "show", "hamlet", "ann"]).await;
    assert!(shown.contains(&id) && shown.contains("label.row"), "{shown}");
    let by_id = json(&server, &["reservation", "show", "hamlet", "--id", &id]).await;
    assert_eq!(by_id[0]["userId"], "ann");
    let etag = by_id[0]["etag"].as_str().expect("it has one");
    good(&server, &["reservation", "cancel", "hamlet", "ann", "--reason", "ill", "--etag", etag]).await;
    let shown = json(&server, &["reservation", "show", "hamlet", "ann"]).await;
    assert_eq!(
        (shown[0]["state"].as_str(), shown[0]["cancelReason"].as_str()),
        (Some("RESERVATION_STATE_CANCELLED"), Some("ill"))
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn reservations_are_listed_by_event_user_and_state() {
    let server = TestServer::start().await;
    for event in ["hamlet", "macbeth"] {
        server.event(event, 5).await;
        good(&server, &["reservation", "reserve", event, "ann"]).await;
    }
    good(&server, &["reservation", "reserve", "hamlet", "bob", "--confirm"]).await;
    for (arguments, expected) in [
        (&["--event", "hamlet"][..], &[("hamlet", "ann"), ("hamlet", "bob")][..]),
        (&["--user", "ann"], &[("hamlet", "ann"), ("macbeth", "ann")]),
        (&["--event", "hamlet", "--state", "confirmed"], &[("hamlet", "bob")]),
        (&["--event", "hamlet", "--limit", "1"], &[("hamlet", "ann")]),
    ] {
        let listed = json(&server, &[&["reservation", "list"], arguments].concat()).await;
        let mut pairs: Vec<_> = listed
            .iter()
            .map(|it| (it["eventId"].as_str().unwrap_or_default(), it["userId"].as_str().unwrap_or_default()))
            .collect();
        pairs.sort_unstable();
        assert_eq!(pairs, expected, "{arguments:?}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do_and_is_exit_code_3() {
    let server = TestServer::start().await;
    server.event("hamlet", 2).await;
    good(&server, &["reservation", "reserve", "hamlet", "ann"]).await;
    for (arguments, expected) in [
        (
            &["reserve", "hamlet", "bob", "--quantity", "2"][..],
            "2 asked for, 1 available (SOLD_OUT); ask for fewer, or try again when a hold lapses",
        ),
        (
            &["reserve", "hamlet", "ann"],
            "the user has a live reservation for this event (ALREADY_RESERVED); `reservd reservation show EVENT USER` \
             shows it",
        ),
        (
            &["confirm", "hamlet", "bob"],
            "event hamlet has no such reservation (RESERVATION_NOT_FOUND); `reservd reservation list --event EVENT` \
             has them all",
        ),
        (
            &["reserve", "macbeth", "bob"],
            "there is no event macbeth (EVENT_NOT_FOUND); `reservd event list` has them all",
        ),
    ] {
        let (code, line) = bad(&server, &[&["reservation"], arguments].concat()).await;
        assert_eq!((code, line.as_str()), (3, expected), "{arguments:?}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn every_change_has_a_dry_run_and_a_request_id() {
    let server = TestServer::start().await;
    server.event("hamlet", 5).await;
    let reserve = ["reservation", "reserve", "hamlet", "ann"];
    for (arguments, of) in [
        (&reserve[..], "reserve"),
        (&["reservation", "extend", "hamlet", "ann"], "extend"),
        (&["reservation", "confirm", "hamlet", "ann"], "confirm"),
        (&["reservation", "cancel", "hamlet", "ann"], "cancel"),
    ] {
        let version = server.get_event("hamlet").await.version;
        let dry = on(&server, &[arguments, &["--dry-run"]].concat()).await;
        assert_eq!((dry.code, dry.err.as_str()), (Some(0), "dry run: nothing was changed\n"), "{of}");
        assert_eq!(server.get_event("hamlet").await.version, version, "{of}");
        for replayed in [false, true] {
            let done = json(&server, &[arguments, &["--request-id", of]].concat()).await;
            assert_eq!((&done[0]["execution"]["replayed"], &done[0]["requestId"]), (&replayed.into(), &of.into()));
        }
        assert_eq!(server.get_event("hamlet").await.version, version + 1, "{of}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_waitlist_is_listed_in_its_order() {
    let server = TestServer::start().await;
    let waitlist = Some(WaitlistPolicy { enabled: true, ..Default::default() });
    server.event_with(Event { event_id: "hamlet".into(), capacity: 1, waitlist, ..Default::default() }).await;
    good(&server, &["reservation", "reserve", "hamlet", "ann"]).await;
    for user in ["zoe", "bob"] {
        server.waitlist().join_waitlist(join("hamlet", user, 1)).await.expect("it is sold out");
    }
    let table = good(&server, &["waitlist", "list", "--event", "hamlet"]).await;
    let users: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(users, ["zoe", "bob"], "{table}");
    let of_bob = json(&server, &["waitlist", "list", "--user", "bob", "--state", "waiting"]).await;
    assert_eq!((of_bob.len(), of_bob[0]["userId"].as_str()), (1, Some("bob")));
    server.check_and_stop().await;
}
