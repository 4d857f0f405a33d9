//! A replay tells the first result, and beside it how things stand now.

use reservd::rpc::pb::{self, ReservationState, WaitlistEntryState};

use crate::support::{Guarded, STRATEGIES, TestServer, join, of_user, reserve, strict, with};

/// A client with deterministic request_ids must not show a ticket that does not exist any more.
#[tokio::test]
async fn a_replay_also_tells_the_reservation_as_it_is_now() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        server.event(event_id, 1).await;
        let request_id = "ann-concert".to_owned();
        let request = pb::ReserveRequest { request_id, confirm: true, options, ..reserve(event_id, "ann") };
        let mut reservations = server.reservations();
        let first = reservations.reserve(request.clone()).await.expect("there is room").into_inner();
        assert_eq!(first.current, None, "only a replay has it");
        let replay = reservations.reserve(request.clone()).await.expect("it was done").into_inner();
        assert_eq!((&replay.reservation, &replay.current), (&first.reservation, &first.reservation));

        let cancel =
            pb::CancelRequest { event_id: event_id.into(), reservation: of_user("ann"), options, ..Default::default() };
        server.cancel(cancel).await.expect("it is hers");
        server.reserve(reserve(event_id, "bob")).await.expect("there is room again");
        let replay = reservations.reserve(request.clone()).await.expect("it was done").into_inner();
        assert!(replay.execution.expect("a report").replayed);
        assert_eq!(replay.reservation, first.reservation);
        let current = replay.current.expect("it is still kept");
        assert_eq!((current.state(), current.user_id.as_str()), (ReservationState::Cancelled, "ann"));

        let forget = "DELETE FROM reservations WHERE event_id = $1 AND state = 'CANCELLED'";
        sqlx::query(forget).bind(event_id).execute(&mut server.sql().await).await.expect("it is pruned");
        let replay = reservations.reserve(request).await.expect("it was done").into_inner();
        assert_eq!((replay.reservation, replay.current), (first.reservation, None));
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn every_mutation_of_a_reservation_or_an_entry_tells_it_in_a_replay() {
    let server = TestServer::start().await;
    server.event_with_waitlist("show", 2, strict()).await;
    server.reserve(pb::ReserveRequest { quantity: 2, ..reserve("show", "ann") }).await.expect("there is room");
    let mut waitlist = server.waitlist();
    let wait = pb::JoinWaitlistRequest { request_id: "join".into(), ..join("show", "bob", 1) };
    waitlist.join_waitlist(wait.clone()).await.expect("it is sold out");

    let (event_id, reservation) = ("show".to_owned(), of_user("ann"));
    let request_id = |id: &str| id.to_owned();
    let extend = pb::ExtendRequest {
        event_id: event_id.clone(),
        reservation: reservation.clone(),
        request_id: request_id("extend"),
        ..Default::default()
    };
    let amend = pb::AmendRequest {
        event_id: event_id.clone(),
        reservation: reservation.clone(),
        quantity: Some(1),
        request_id: request_id("amend"),
        ..Default::default()
    };
    let confirm = pb::ConfirmRequest {
        event_id: event_id.clone(),
        reservation: reservation.clone(),
        request_id: request_id("confirm"),
        ..Default::default()
    };
    let cancel = pb::CancelRequest { event_id, reservation, request_id: request_id("cancel"), ..Default::default() };
    let mut reservations = server.reservations();
    // Each twice, and then the replays when all is over.
    for is_replay in [false, true] {
        let told = [
            reservations.extend(extend.clone()).await.expect("it is held").into_inner().current,
            reservations.amend(amend.clone()).await.expect("it is less").into_inner().current,
            reservations.confirm(confirm.clone()).await.expect("it is held").into_inner().current,
            reservations.cancel(cancel.clone()).await.expect("it is hers").into_inner().current,
        ];
        for current in told {
            let state = current.map(|reservation| reservation.state());
            assert_eq!(state, is_replay.then_some(ReservationState::Cancelled));
        }
    }
    let joined = waitlist.join_waitlist(wait).await.expect("it was done").into_inner();
    assert_eq!(joined.entry.expect("the entry").state(), WaitlistEntryState::Waiting);
    assert_eq!(joined.current.expect("it is kept").state(), WaitlistEntryState::Promoted);
    server.check_and_stop().await;
}

/// A caller with the role `user` has request_ids of its own: it gets no replay of another's, and so nothing of it.
#[tokio::test]
async fn a_user_gets_nothing_of_another_users_by_a_replay() {
    let server = Guarded::start().await;
    server.event("show", 5).await;
    let request = |user: &str| pb::ReserveRequest { request_id: "order-7".into(), ..reserve("show", user) };
    server.user("ann").reservations().reserve(request("ann")).await.expect("there is room");
    let bob = server.user("bob").reservations().reserve(request("bob")).await.expect("there is room").into_inner();
    assert!(!bob.execution.expect("a report").replayed);
    assert_eq!((bob.current, bob.reservation.expect("his").user_id), (None, "bob".to_owned()));
    let again = server.user("ann").reservations().reserve(request("ann")).await.expect("it was done").into_inner();
    assert_eq!(again.current.expect("it is kept").user_id, "ann");
    server.check_and_stop().await;
}
