//! Reading reservations: one by its id or its user, and many in pages.

use std::collections::BTreeSet;

use reservd::rpc::pb::*;

use super::{cancel, confirm, get, hold};
use crate::support::{TestServer, by_id, of_user, reserve};

#[tokio::test]
async fn a_user_id_selects_the_live_reservation_or_the_newest_ended_one() {
    let server = TestServer::start().await;
    server.event("e", 9).await;
    let mut client = server.reservations();
    let first = hold(&server, "e", "ann", 1).await;
    assert_eq!(get(&server, "e", of_user("ann")).await, first);
    assert_eq!(get(&server, "e", by_id(&first.reservation_id)).await, first);
    client.cancel(cancel("e", "ann")).await.expect("cancelled");
    let second = hold(&server, "e", "ann", 2).await;
    client.cancel(cancel("e", "ann")).await.expect("cancelled");
    let newest = get(&server, "e", of_user("ann")).await;
    assert_eq!((&newest.reservation_id, newest.state()), (&second.reservation_id, ReservationState::Cancelled));
    let third = hold(&server, "e", "ann", 3).await;
    assert_eq!(get(&server, "e", of_user("ann")).await, third);
    // An ended reservation stays as it was.
    let ended = get(&server, "e", by_id(&first.reservation_id)).await;
    assert_eq!((ended.state(), ended.quantity, ended.create_time), (ReservationState::Cancelled, 1, first.create_time));
    server.check_and_stop().await;
}

async fn walk(server: &TestServer, request: ListReservationsRequest) -> Vec<(String, String, ReservationState)> {
    let (mut walked, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListReservationsRequest { page_token: token, ..request.clone() };
        let page = server.reservations().list_reservations(request).await.expect("a page").into_inner();
        walked
            .extend(page.reservations.into_iter().map(|one| (one.event_id.clone(), one.user_id.clone(), one.state())));
        token = page.next_page_token;
        if token.is_empty() {
            return walked;
        }
        assert!(walked.len() < 100, "the walk has no end: {walked:?}");
    }
}

#[tokio::test]
async fn reservations_are_listed_by_event_by_user_and_by_state() {
    use ReservationState::{Cancelled, Confirmed, Expired, Held};
    let server = TestServer::start().await;
    let mut client = server.reservations();
    for event_id in ["e2", "e1"] {
        server.event(event_id, 9).await;
        for user in ["cid", "ann", "bob"] {
            hold(&server, event_id, user, 1).await;
        }
    }
    client.cancel(cancel("e1", "ann")).await.expect("cancelled");
    hold(&server, "e1", "ann", 1).await;
    client.confirm(confirm("e1", "bob")).await.expect("confirmed");
    client.confirm(confirm("e2", "ann")).await.expect("confirmed");
    server.lapse_holds("e2").await;
    crate::support::eventually("the holds are released", async || {
        server.get_event("e2").await.counts.unwrap_or_default().held == 0
    })
    .await;

    let all = ListReservationsRequest::default;
    let (e1, ann) = (|| "e1".to_owned(), || "ann".to_owned());
    let states = |states: &[ReservationState]| states.iter().map(|state| i32::from(*state)).collect();
    type Row<'a> = (&'a str, &'a str, ReservationState);
    let cases: Vec<(ListReservationsRequest, Vec<Row<'_>>)> = vec![
        (
            ListReservationsRequest { event_id: e1(), ..all() },
            vec![("e1", "cid", Held), ("e1", "ann", Cancelled), ("e1", "bob", Confirmed), ("e1", "ann", Held)],
        ),
        (
            ListReservationsRequest { user_id: ann(), ..all() },
            vec![("e1", "ann", Cancelled), ("e1", "ann", Held), ("e2", "ann", Confirmed)],
        ),
        (
            ListReservationsRequest { event_id: e1(), user_id: ann(), ..all() },
            vec![("e1", "ann", Cancelled), ("e1", "ann", Held)],
        ),
        (
            ListReservationsRequest { event_id: "e2".into(), states: states(&[Expired]), ..all() },
            vec![("e2", "cid", Expired), ("e2", "bob", Expired)],
        ),
        (
            ListReservationsRequest { user_id: ann(), states: states(&[Held, Confirmed]), ..all() },
            vec![("e1", "ann", Held), ("e2", "ann", Confirmed)],
        ),
        (ListReservationsRequest { user_id: "absent".into(), ..all() }, vec![]),
        (ListReservationsRequest { event_id: "e1".into(), user_id: "absent".into(), ..all() }, vec![]),
    ];
    for (request, expected) in cases {
        let expected: Vec<_> = expected.into_iter().map(|(e, u, state)| (e.to_owned(), u.to_owned(), state)).collect();
        for page_size in [0, 1, 2] {
            let request = ListReservationsRequest { page_size, ..request.clone() };
            assert_eq!(walk(&server, request.clone()).await, expected, "{request:?}");
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn paging_while_reservations_change_repeats_and_skips_nothing() {
    let server = TestServer::start().await;
    server.event("e", 100).await;
    let mut client = server.reservations();
    for n in 0..30 {
        hold(&server, "e", &format!("there-{n:02}"), 1).await;
    }
    let (mut walked, mut token, mut turn) = (Vec::new(), String::new(), 0);
    loop {
        let request =
            ListReservationsRequest { event_id: "e".into(), page_size: 4, page_token: token, ..Default::default() };
        let page = client.list_reservations(request).await.expect("a page").into_inner();
        walked.extend(page.reservations.into_iter().map(|one| one.user_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert!(walked.len() < 1000, "the walk has no end: {walked:?}");
        if turn < 5 {
            client.reserve(reserve("e", &format!("new-{turn}"))).await.expect("there is room");
        }
        client.cancel(cancel("e", &format!("there-{turn:02}"))).await.expect("it was live");
        turn += 1;
    }
    let seen: BTreeSet<_> = walked.iter().cloned().collect();
    assert_eq!(seen.len(), walked.len(), "one was seen twice: {walked:?}");
    assert!((0..30).all(|n| seen.contains(&format!("there-{n:02}"))), "one was skipped: {walked:?}");
    server.check_and_stop().await;
}
