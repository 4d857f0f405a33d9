//! The changes of a reservation, in whole and in part, and the fields that they leave alone.

use std::collections::BTreeMap;

use prost_types::FieldMask;
use reservd::rpc::pb::{self, *};
use tonic::Code;

use super::{amend, cancel, confirm, extend, get, hold, micros};
use crate::support::{STRATEGIES, TestServer, assert_refused, millis, new_id, of_user, reserve, with};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn counters(server: &TestServer, event_id: &str) -> (i32, i32, i32) {
    let event = server.get_event(event_id).await;
    (
        event.counts.unwrap_or_default().held,
        event.counts.unwrap_or_default().confirmed,
        event.counts.unwrap_or_default().available,
    )
}

#[tokio::test]
async fn a_reservation_can_be_confirmed_or_cancelled_in_part() {
    for strategy in STRATEGIES {
        let server = TestServer::start().await;
        server.event("e", 10).await;
        let mut client = server.reservations();
        hold(&server, "e", "ann", 6).await;
        let request = CancelRequest {
            quantity: Some(1),
            request_id: new_id(),
            reason: "one less".into(),
            options: with(strategy),
            ..cancel("e", "ann")
        };
        let reduced = client.cancel(request).await.expect("reduced").into_inner().reservation.expect("it");
        assert_eq!(
            (reduced.state(), reduced.quantity, &*reduced.cancel_reason),
            (ReservationState::Held, 5, "one less")
        );
        assert!(reduced.expire_time.is_some(), "it is a hold still");
        assert_eq!(counters(&server, "e").await, (5, 0, 5));

        let request = ConfirmRequest { quantity: Some(3), options: with(strategy), ..confirm("e", "ann") };
        let confirmed = client.confirm(request).await.expect("confirmed").into_inner().reservation.expect("it");
        assert_eq!(
            (confirmed.state(), confirmed.quantity, confirmed.expire_time),
            (ReservationState::Confirmed, 3, None)
        );
        assert!(confirmed.confirm_time.is_some());
        assert_eq!(counters(&server, "e").await, (0, 3, 7));

        let request =
            CancelRequest { quantity: Some(1), request_id: new_id(), options: with(strategy), ..cancel("e", "ann") };
        let reduced = client.cancel(request).await.expect("reduced").into_inner().reservation.expect("it");
        assert_eq!(
            (reduced.state(), reduced.quantity, &*reduced.cancel_reason),
            (ReservationState::Confirmed, 2, "one less")
        );
        assert_eq!(counters(&server, "e").await, (0, 2, 8));

        // A quantity equal to all units ends the reservation.
        let request =
            CancelRequest { quantity: Some(2), request_id: new_id(), options: with(strategy), ..cancel("e", "ann") };
        let ended = client.cancel(request).await.expect("cancelled").into_inner().reservation.expect("it");
        assert_eq!((ended.state(), ended.quantity), (ReservationState::Cancelled, 2));
        assert_eq!(ended.confirm_time, confirmed.confirm_time);
        assert_eq!(counters(&server, "e").await, (0, 0, 10));
        assert_eq!(get(&server, "e", of_user("ann")).await, ended);
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn amend_changes_the_given_fields_and_no_others() {
    for strategy in STRATEGIES {
        let server = TestServer::start().await;
        server.event("e", 10).await;
        let mut client = server.reservations();
        let first = ReserveRequest { quantity: 2, labels: labels(&[("a", "1"), ("b", "2")]), ..reserve("e", "ann") };
        let first = client.reserve(first).await.expect("there is room").into_inner().reservation.expect("it");
        let mut amended = async |request: AmendRequest| {
            let request = AmendRequest { options: with(strategy), ..request };
            client.amend(request).await.expect("amended").into_inner().reservation.expect("it")
        };
        let more = amended(AmendRequest { quantity: Some(10), ..amend("e", "ann") }).await;
        assert_eq!((more.quantity, &more.labels, more.expire_time), (10, &first.labels, first.expire_time));
        assert_eq!(counters(&server, "e").await, (10, 0, 0));
        let less = amended(AmendRequest { quantity: Some(4), ..amend("e", "ann") }).await;
        assert_eq!((less.quantity, less.state()), (4, ReservationState::Held));
        assert_eq!(counters(&server, "e").await, (4, 0, 6));
        let relabelled = amended(AmendRequest { labels: labels(&[("c", "3")]), ..amend("e", "ann") }).await;
        assert_eq!((relabelled.quantity, relabelled.labels), (4, labels(&[("c", "3")])));
        let cleared = amended(AmendRequest {
            quantity: Some(5),
            update_mask: Some(prost_types::FieldMask { paths: vec!["*".into()] }),
            ..amend("e", "ann")
        })
        .await;
        assert_eq!((cleared.quantity, cleared.labels), (5, BTreeMap::new()));
        assert_eq!(cleared.version, 6);
        assert_ne!(cleared.etag, first.etag);
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn labels_stay_for_the_life_of_a_reservation() {
    let server = TestServer::start().await;
    server.event("e", 10).await;
    let mut client = server.reservations();
    let kept = labels(&[("order/id", "\u{1f3ab} \"quoted\"")]);
    client.reserve(ReserveRequest { labels: kept.clone(), ..reserve("e", "ann") }).await.expect("there is room");
    client.extend(extend("e", "ann")).await.expect("extended");
    client.confirm(confirm("e", "ann")).await.expect("confirmed");
    client.cancel(cancel("e", "ann")).await.expect("cancelled");
    assert_eq!(get(&server, "e", of_user("ann")).await.labels, kept);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_reservation_above_a_lowered_limit_may_stay_or_shrink() {
    let server = TestServer::start().await;
    server.event("e", 10).await;
    hold(&server, "e", "ann", 5).await;
    let limits = Some(EventLimits { max_quantity: Some(2), ..Default::default() });
    let event = Some(pb::Event { event_id: "e".into(), limits, ..Default::default() });
    let update_mask = Some(FieldMask { paths: vec!["limits.max_quantity".into()] });
    let request = UpdateEventRequest { event, update_mask, ..Default::default() };
    server.events().update_event(request).await.expect("updated");
    let mut client = server.reservations();
    let mut to =
        async |quantity: i32| client.amend(AmendRequest { quantity: Some(quantity), ..amend("e", "ann") }).await;
    assert_refused(to(6).await, Code::FailedPrecondition, "QUANTITY_LIMIT");
    to(5).await.expect("it may stay");
    to(4).await.expect("it may shrink, though it is above the limit still");
    assert_refused(to(5).await, Code::FailedPrecondition, "QUANTITY_LIMIT");
    server.reservations().confirm(confirm("e", "ann")).await.expect("it may be confirmed");
    server.check_and_stop().await;
}

#[tokio::test]
async fn extending_never_shortens_uses_nothing_up_then_and_is_bounded_in_length_and_number() {
    for strategy in STRATEGIES {
        let server = TestServer::start().await;
        let limits = EventLimits {
            hold_ttl_default: millis(60_000),
            hold_ttl_max: millis(600_000),
            max_extensions: Some(3),
            ..Default::default()
        };
        let event = pb::Event { event_id: "e".into(), capacity: 5, limits: Some(limits), ..Default::default() };
        server.event_with(event).await;
        let mut client = server.reservations();
        let held = client.reserve(ReserveRequest { hold_ttl: millis(300_000), ..reserve("e", "ann") }).await;
        let held = held.expect("there is room").into_inner().reservation.expect("it");
        assert_eq!(micros(held.expire_time) - micros(held.create_time), 300_000_000);
        let mut extended = async |ttl: Option<i64>| {
            let ttl = ttl.and_then(millis);
            let answer = client.extend(ExtendRequest { ttl, options: with(strategy), ..extend("e", "ann") }).await;
            answer.map(|answer| answer.into_inner().reservation.expect("it"))
        };
        let shorter = extended(Some(100)).await.expect("extended");
        assert_eq!((shorter.expire_time, shorter.extension_count), (held.expire_time, 0), "it moves nothing");
        let by_default = extended(None).await.expect("extended");
        assert_eq!((by_default.expire_time, by_default.extension_count), (held.expire_time, 0));
        for (count, ttl) in [(1, 301_000), (2, 400_000)] {
            assert_eq!(extended(Some(ttl)).await.expect("extended").extension_count, count);
        }
        assert_refused(extended(Some(600_001)).await, Code::FailedPrecondition, "HOLD_TTL_LIMIT");
        let longest = extended(Some(600_000)).await.expect("extended");
        assert_eq!(micros(longest.expire_time) - micros(longest.update_time), 600_000_000);
        assert_eq!(longest.extension_count, 3);
        assert_refused(extended(Some(600_000)).await, Code::FailedPrecondition, "EXTENSION_LIMIT");
        let none_left = extended(Some(100)).await.expect("it needs no extension");
        assert_eq!((none_left.expire_time, none_left.extension_count), (longest.expire_time, 3));
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn a_reservation_confirmed_at_once_is_never_a_hold() {
    for strategy in STRATEGIES {
        let server = TestServer::start().await;
        server.event("e", 3).await;
        let request = ReserveRequest { quantity: 3, confirm: true, options: with(strategy), ..reserve("e", "ann") };
        let made = server.reservations().reserve(request).await.expect("there is room").into_inner();
        let made = made.reservation.expect("it");
        assert_eq!(
            (made.state(), made.expire_time, made.confirm_time),
            (ReservationState::Confirmed, None, made.create_time)
        );
        assert_eq!(counters(&server, "e").await, (0, 3, 0));
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn validate_only_answers_and_changes_nothing() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    hold(&server, "e", "ann", 2).await;
    let before = (server.get_event("e").await, get(&server, "e", of_user("ann")).await);
    let mut client = server.reservations();
    for strategy in STRATEGIES {
        let options = with(strategy);
        let request =
            ReserveRequest { quantity: 3, validate_only: true, request_id: "v".into(), options, ..reserve("e", "bob") };
        let made = client.reserve(request.clone()).await.expect("it would work").into_inner();
        let (made, execution) = (made.reservation.expect("it"), made.execution.expect("a report"));
        assert_eq!((made.state(), made.quantity, made.version), (ReservationState::Held, 3, 3));
        assert_eq!((execution.event_version, execution.replayed), (3, false));
        let confirmed = client.confirm(ConfirmRequest { validate_only: true, options, ..confirm("e", "ann") }).await;
        assert_eq!(
            confirmed.expect("it would").into_inner().reservation.expect("it").state(),
            ReservationState::Confirmed
        );
        let cancelled = client.cancel(CancelRequest { validate_only: true, options, ..cancel("e", "ann") }).await;
        assert_eq!(
            cancelled.expect("it would").into_inner().reservation.expect("it").state(),
            ReservationState::Cancelled
        );
        let extended = client.extend(ExtendRequest { validate_only: true, options, ..extend("e", "ann") }).await;
        assert_eq!(extended.expect("it would").into_inner().reservation.expect("it").extension_count, 1);
        let amended =
            client.amend(AmendRequest { quantity: Some(5), validate_only: true, options, ..amend("e", "ann") }).await;
        assert_eq!(amended.expect("it would").into_inner().reservation.expect("it").quantity, 5);
        let too_many = ReserveRequest { quantity: 4, ..request };
        assert_refused(client.reserve(too_many).await, Code::FailedPrecondition, "SOLD_OUT");
        assert_eq!((server.get_event("e").await, get(&server, "e", of_user("ann")).await), before);
    }
    // The request_id is not used up either: the same command can now be executed.
    let request = ReserveRequest { request_id: "v".into(), ..reserve("e", "bob") };
    let made = client.reserve(request).await.expect("there is room").into_inner();
    assert!(!made.execution.expect("a report").replayed);
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_execution_report_names_strategy_attempts_and_waits() {
    let server = TestServer::with(&[("strategy.reserve", "OPTIMISTIC")]).await;
    server.event("e", 5).await;
    let mut client = server.reservations();
    // Without options of the caller, the setting applies.
    let report = client.reserve(reserve("e", "ann")).await.expect("room").into_inner().execution.expect("a report");
    assert_eq!((report.strategy(), report.attempt_count, report.event_version), (ExecutionStrategy::Optimistic, 1, 2));
    assert_eq!(report.lock_wait_duration, millis(0), "it waits for no lock");

    let row = server.hold_row("e").await;
    let mut waiting = server.reservations();
    let request =
        ReserveRequest { options: with(ExecutionStrategy::Pessimistic), request_id: "r".into(), ..reserve("e", "bob") };
    let asked = request.clone();
    let waiting = tokio::spawn(async move { waiting.reserve(asked).await });
    server.waiting(1).await;
    row.release().await;
    let report = waiting.await.expect("it ran").expect("room").into_inner().execution.expect("a report");
    let waited = report.lock_wait_duration.expect("a span");
    assert!(waited.seconds > 0 || waited.nanos > 0, "{report:?}");
    assert_eq!((report.strategy(), report.attempt_count, report.event_version), (ExecutionStrategy::Pessimistic, 1, 3));

    client.reserve(reserve("e", "cid")).await.expect("room");
    let again = client.reserve(request).await.expect("answered again").into_inner().execution.expect("a report");
    assert_eq!((again.event_version, again.replayed), (3, true));
    server.check_and_stop().await;
}
