//! Mutations: one envelope, etags that reservations do not move, quantities without a zero.

use prost_types::FieldMask;
use reservd::rpc::pb::{self, *};
use tonic::Code;

use crate::support::{STRATEGIES, TestServer, assert_refused, bad_fields, metadata, of_user, reserve, with};

fn renamed(event_id: &str, name: &str) -> UpdateEventRequest {
    let event = pb::Event { event_id: event_id.into(), display_name: name.into(), ..Default::default() };
    let update_mask = Some(FieldMask { paths: vec!["display_name".into()] });
    UpdateEventRequest { event: Some(event), update_mask, ..Default::default() }
}

#[tokio::test]
async fn an_update_with_an_etag_wins_on_an_event_that_is_being_reserved() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        let etag = server.event(event_id, 5).await.etag;
        let stall = server.hold_commits().await;
        let reserved = server.reserve(reserve(event_id, "ann"));
        let updated = async {
            server.waiting(1).await;
            let request =
                UpdateEventRequest { etag: etag.clone(), options: with(strategy), ..renamed(event_id, "new") };
            server.events().update_event(request).await
        };
        let release = async {
            server.waiting(2).await;
            stall.release().await;
        };
        let (reserved, updated, ()) = tokio::join!(reserved, updated, release);
        reserved.expect("there is room");
        let event = updated.expect("nobody else has changed the event").into_inner().event.expect("it");
        assert_eq!((event.version, event.definition_version, event.display_name.as_str()), (3, 3, "new"));
        let stale = UpdateEventRequest { etag, ..renamed(event_id, "newer") };
        let refused = server.events().update_event(stale).await;
        let status = assert_refused(refused, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&status)["current_etag"], event.etag);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_mutation_is_previewed_and_executed_as_asked() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    for strategy in STRATEGIES {
        let request = CancelEventRequest {
            event_id: "e".into(),
            validate_only: true,
            options: with(strategy),
            ..Default::default()
        };
        let preview = server.events().cancel_event(request).await.expect("it can be cancelled").into_inner();
        assert_eq!(preview.event.expect("it").state(), EventState::Cancelled);
        assert_eq!(preview.cancelled_reservation_count, 1);
        let execution = preview.execution.expect("how");
        assert!(execution.server_time.is_some() && !execution.replayed);
        assert_eq!(server.get_event("e").await.state(), EventState::Open, "nothing was changed");
    }
    for (number, strategy) in STRATEGIES.into_iter().enumerate() {
        let request = UpdateEventRequest { options: with(strategy), ..renamed("e", &format!("n{number}")) };
        let done = server.events().update_event(request).await.expect("changed").into_inner();
        assert_eq!(done.execution.expect("how").strategy(), strategy);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_creation_is_previewed_and_a_batch_tells_how_many_were_replayed() {
    let server = TestServer::start().await;
    let new = |id: &str| CreateEventRequest {
        event: Some(pb::Event { event_id: id.into(), capacity: 1, ..Default::default() }),
        request_id: format!("create-{id}"),
        ..Default::default()
    };
    let preview = CreateEventRequest { validate_only: true, ..new("a") };
    let preview = server.events().create_event(preview).await.expect("it can be created").into_inner();
    assert_eq!(preview.event.expect("it").event_id, "a");
    let gone = server.events().get_event(GetEventRequest { event_id: "a".into() }).await;
    assert_refused(gone, Code::NotFound, "EVENT_NOT_FOUND");

    server.events().create_event(new("a")).await.expect("created");
    let both = || BatchCreateEventsRequest { requests: vec![new("a"), new("b")], ..Default::default() };
    let preview = BatchCreateEventsRequest { validate_only: true, ..both() };
    let preview = server.events().batch_create_events(preview).await.expect("possible").into_inner();
    assert_eq!((preview.events.len(), preview.replayed_count), (2, 1));
    let done = server.events().batch_create_events(both()).await.expect("created").into_inner();
    assert_eq!((done.events.len(), done.replayed_count), (2, 1));
    let inner = BatchCreateEventsRequest {
        requests: vec![CreateEventRequest { validate_only: true, options: with(STRATEGIES[0]), ..new("c") }],
        ..Default::default()
    };
    let status = server.events().batch_create_events(inner).await;
    let status = assert_refused(status, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&status), ["requests[0].validate_only", "requests[0].options"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_partial_cancel_needs_a_request_id_or_an_etag() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let three = ReserveRequest { quantity: 3, ..reserve("e", "ann") };
    let etag = server.reserve(three).await.expect("there is room").reservation.etag;
    let cancel =
        |quantity| CancelRequest { event_id: "e".into(), reservation: of_user("ann"), quantity, ..Default::default() };
    let mut client = server.reservations();
    for (request, field) in [(cancel(Some(1)), "request_id"), (cancel(Some(0)), "quantity")] {
        let status = assert_refused(client.cancel(request).await, Code::InvalidArgument, "FIELD_INVALID");
        assert!(bad_fields(&status).contains(&field.to_owned()), "{status:?}");
    }
    let by_request = CancelRequest { request_id: "r".into(), ..cancel(Some(1)) };
    for _ in 0..2 {
        let left = client.cancel(by_request.clone()).await.expect("cancelled").into_inner().reservation.expect("it");
        assert_eq!(left.quantity, 2, "a repetition cancels no more");
    }
    let stale = CancelRequest { etag, ..cancel(Some(1)) };
    assert_refused(client.cancel(stale).await, Code::Aborted, "ETAG_MISMATCH");
    client.cancel(cancel(None)).await.expect("all of it needs neither");
    assert_eq!(server.get_event("e").await.counts.unwrap_or_default().available, 5);
    server.check_and_stop().await;
}

#[tokio::test]
async fn reasons_and_label_values_may_have_several_lines() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let note = "ill\nsorry\tbye\r\n";
    let labels = [("note".to_owned(), note.to_owned())].into();
    let made = server.reserve(ReserveRequest { labels, ..reserve("e", "ann") }).await.expect("there is room");
    assert_eq!(made.reservation.labels["note"], note);
    let cancel =
        CancelRequest { event_id: "e".into(), reservation: of_user("ann"), reason: note.into(), ..Default::default() };
    let ended = server.reservations().cancel(cancel).await.expect("cancelled").into_inner().reservation.expect("it");
    assert_eq!(ended.cancel_reason, note);
    server.check_and_stop().await;
}

#[tokio::test]
async fn every_refusal_names_what_it_is_about() {
    let server = TestServer::start().await;
    server.event("e", 1).await;
    let made = server.reserve(reserve("e", "ann")).await.expect("there is room").reservation;
    let status = server.reserve(reserve("e", "bob")).await.expect_err("it is sold out");
    assert_eq!(metadata(&status)["event_id"], "e");
    let more = AmendRequest {
        event_id: "e".into(),
        reservation: crate::support::by_id(&made.reservation_id),
        quantity: Some(2),
        ..Default::default()
    };
    let status = server.reservations().amend(more).await.expect_err("it is sold out");
    let told = metadata(&status);
    assert_eq!((&told["event_id"], &told["reservation_id"]), (&made.event_id, &made.reservation_id));
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_expected_event_version_is_never_compared_with_a_cached_one() {
    let server = TestServer::start().await;
    let twin = server.twin().await;
    server.event("e", 50).await;
    for round in 0..10 {
        let options = with(ExecutionStrategy::Coalesced);
        // It is cached here, and then changed by the other server.
        server.reserve(ReserveRequest { options, ..reserve("e", &format!("a-{round}")) }).await.expect("room");
        let there = twin.reserve(reserve("e", &format!("b-{round}"))).await.expect("room").execution.event_version;
        let exactly = |expected_event_version: i64, user: &str| ReserveRequest {
            expected_event_version: Some(expected_event_version),
            options,
            ..reserve("e", &format!("{user}-{round}"))
        };
        let status =
            assert_refused(server.reserve(exactly(there - 1, "c")).await, Code::Aborted, "EVENT_VERSION_MISMATCH");
        assert_eq!(metadata(&status)["event_version"], there.to_string());
        server.reserve(exactly(there, "c")).await.expect("that is its version");
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}
