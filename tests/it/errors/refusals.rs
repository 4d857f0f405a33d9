//! The refusals of the rules: each names its reason and changes nothing.

use prost_types::Timestamp;
use reservd::rpc::pb::{self, *};
use tonic::Code::{Aborted, AlreadyExists, FailedPrecondition, NotFound};
use tonic_types::StatusExt;

use super::{amend, assert_metadata, assert_precondition, cancel, confirm, extend, hold, without_expiry};
use crate::support::{
    Call, STRATEGIES, TestServer, assert_refused, bad_fields, by_id, metadata, new_id, of_user, reserve, with,
};

fn get(event_id: &str) -> GetReservationRequest {
    GetReservationRequest { event_id: event_id.into(), reservation: of_user("ann") }
}

#[tokio::test]
async fn missing_events_and_reservations_are_not_found() {
    let server = TestServer::start().await;
    server.event("here", 1).await;
    let event_id = || "gone".to_owned();
    let event = Some(pb::Event { event_id: event_id(), capacity: 1, ..Default::default() });
    let calls: Vec<Call> = vec![
        GetEventRequest { event_id: event_id() }.into(),
        UpdateEventRequest { event, ..Default::default() }.into(),
        OpenEventRequest { event_id: event_id(), ..Default::default() }.into(),
        CloseEventRequest { event_id: event_id(), ..Default::default() }.into(),
        CancelEventRequest { event_id: event_id(), ..Default::default() }.into(),
        GetAvailabilityRequest { event_id: event_id() }.into(),
        VerifyEventRequest { event_id: event_id() }.into(),
        confirm("gone", "ann").into(),
        cancel("gone", "ann").into(),
        ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("gone", "ann") }.into(),
        ReserveRequest { options: with(ExecutionStrategy::Optimistic), ..reserve("gone", "ann") }.into(),
        ReserveRequest { validate_only: true, ..reserve("gone", "ann") }.into(),
        extend("gone", "ann").into(),
        amend("gone", "ann", 1).into(),
        ListReservationsRequest { event_id: event_id(), ..Default::default() }.into(),
        ListReservationsRequest { event_id: event_id(), user_id: "ann".into(), ..Default::default() }.into(),
        SearchReservationsRequest { event_id: event_id(), ..Default::default() }.into(),
        ListWaitlistRequest { event_id: event_id(), ..Default::default() }.into(),
        ListWaitlistRequest { event_id: event_id(), user_id: "ann".into(), ..Default::default() }.into(),
        ListChangesRequest { event_id: event_id(), ..Default::default() }.into(),
    ];
    for call in calls {
        let status = assert_refused(call.send(&server).await, NotFound, "EVENT_NOT_FOUND");
        let resource = status.get_details_resource_info().expect("a ResourceInfo");
        assert_eq!((&*resource.resource_type, &*resource.resource_name), ("reservd.v1.Event", "gone"));
    }
    let someone = "0190b6d4-5b7e-7c3a-9f00-0123456789ab";
    let calls: Vec<Call> = vec![
        get("here").into(),
        get("gone").into(),
        confirm("here", "ann").into(),
        ConfirmRequest { reservation: by_id(someone), ..confirm("here", "ann") }.into(),
        cancel("here", "ann").into(),
        extend("here", "ann").into(),
        amend("here", "ann", 1).into(),
    ];
    for call in calls {
        let status = assert_refused(call.send(&server).await, NotFound, "RESERVATION_NOT_FOUND");
        let resource = status.get_details_resource_info().expect("a ResourceInfo");
        assert_eq!(resource.resource_type, "reservd.v1.Reservation");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn sold_out_returns_what_is_available_and_when_there_may_be_more() {
    let server = without_expiry().await;
    server.event("e", 5).await;
    let next = hold(&server, "e", "ann", 3).await.expire_time.expect("a hold lapses");
    hold(&server, "e", "bob", 1).await;
    for strategy in STRATEGIES {
        let request = ReserveRequest { quantity: 2, options: with(strategy), ..reserve("e", "cid") };
        let status = assert_refused(server.reservations().reserve(request).await, FailedPrecondition, "SOLD_OUT");
        assert_precondition(&status, "SOLD_OUT", "e");
        let found = metadata(&status);
        assert_eq!((&*found["asked"], &*found["available"]), ("2", "1"));
        assert_eq!(parse(&found["next_hold_expire_time"]), next);
    }
    // Amend asks only for the units beyond those that it has.
    let status =
        assert_refused(server.reservations().amend(amend("e", "bob", 3)).await, FailedPrecondition, "SOLD_OUT");
    assert_eq!((&*metadata(&status)["asked"], &*metadata(&status)["available"]), ("2", "1"));
    // Without a hold no time is known at which more units may be free.
    server.event("none", 0).await;
    let status =
        assert_refused(server.reservations().reserve(reserve("none", "ann")).await, FailedPrecondition, "SOLD_OUT");
    assert_metadata(&status, &[("asked", "1"), ("available", "0")]);
    server.check_and_stop().await;
}

fn parse(rfc3339: &str) -> Timestamp {
    rfc3339.parse().unwrap_or_else(|_| panic!("not RFC 3339: {rfc3339}"))
}

#[tokio::test]
async fn already_reserved_names_the_live_reservation() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let held = hold(&server, "e", "ann", 1).await;
    for strategy in STRATEGIES {
        let request = ReserveRequest { options: with(strategy), ..reserve("e", "ann") };
        let status = assert_refused(server.reservations().reserve(request).await, AlreadyExists, "ALREADY_RESERVED");
        assert_metadata(&status, &[("reservation_id", &held.reservation_id)]);
        let resource = status.get_details_resource_info().expect("a ResourceInfo");
        assert_eq!(
            (resource.resource_type, resource.resource_name),
            ("reservd.v1.Reservation".into(), held.reservation_id.clone())
        );
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_is_open_by_its_state_and_its_booking_times() {
    let server = TestServer::start().await;
    let event = |id: &str| pb::Event { event_id: id.into(), capacity: 5, ..Default::default() };
    let (past, future) =
        (Some(Timestamp { seconds: 1_000_000_000, nanos: 0 }), Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }));
    server.event_with(event("closed")).await;
    hold(&server, "closed", "ann", 1).await;
    server
        .events()
        .close_event(CloseEventRequest { event_id: "closed".into(), ..Default::default() })
        .await
        .expect("closed");
    server.event_with(event("cancelled")).await;
    server
        .events()
        .cancel_event(CancelEventRequest { event_id: "cancelled".into(), ..Default::default() })
        .await
        .expect("cancelled");
    server.event_with(pb::Event { booking_open_time: future, ..event("early") }).await;
    server.event_with(pb::Event { booking_close_time: past, ..event("late") }).await;
    server.event_with(pb::Event { booking_open_time: past, booking_close_time: future, ..event("now") }).await;

    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("closed", &[("state", "CLOSED")]),
        ("cancelled", &[("state", "CANCELLED")]),
        ("early", &[("booking_open_time", "2096-10-02T07:06:40Z"), ("state", "OPEN")]),
        ("late", &[("booking_close_time", "2001-09-09T01:46:40Z"), ("state", "OPEN")]),
    ];
    for (event_id, expected) in cases {
        for strategy in STRATEGIES {
            let request = ReserveRequest { options: with(strategy), ..reserve(event_id, "bob") };
            let status =
                assert_refused(server.reservations().reserve(request).await, FailedPrecondition, "EVENT_NOT_OPEN");
            assert_metadata(&status, expected);
            assert_precondition(&status, "EVENT_NOT_OPEN", event_id);
        }
    }
    hold(&server, "now", "bob", 1).await;
    // A reservation of a closed event can't grow, but it can shrink, be confirmed and be cancelled.
    let mut client = server.reservations();
    assert_refused(client.amend(amend("closed", "ann", 2)).await, FailedPrecondition, "EVENT_NOT_OPEN");
    client.extend(extend("closed", "ann")).await.expect("a hold of a closed event can be extended");
    client.confirm(confirm("closed", "ann")).await.expect("a hold of a closed event can be confirmed");
    client.cancel(cancel("closed", "ann")).await.expect("a reservation of a closed event can be cancelled");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_lapsed_hold_gets_the_same_answer_before_and_after_expiry() {
    let server = without_expiry().await;
    server.event("e", 5).await;
    hold(&server, "e", "ann", 2).await;
    server.lapse_holds("e").await;
    let mut answers = Vec::new();
    for is_released in [false, true] {
        if is_released {
            // A second server runs expiry as soon as it starts.
            let twin = server.twin().await;
            crate::support::eventually("the hold is released", async || {
                server.get_event("e").await.counts.unwrap_or_default().held == 0
            })
            .await;
            twin.app.stop().await;
        }
        let mut calls: Vec<Call> = Vec::new();
        for strategy in STRATEGIES {
            calls.push(ConfirmRequest { options: with(strategy), ..confirm("e", "ann") }.into());
            calls.push(CancelRequest { options: with(strategy), ..cancel("e", "ann") }.into());
            calls.push(ExtendRequest { options: with(strategy), ..extend("e", "ann") }.into());
            calls.push(AmendRequest { options: with(strategy), ..amend("e", "ann", 1) }.into());
        }
        for call in calls {
            let status = assert_refused(call.send(&server).await, FailedPrecondition, "HOLD_EXPIRED");
            assert_precondition(&status, "HOLD_EXPIRED", "e");
            answers.push((status.message().to_owned(), metadata(&status)));
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let expire_time = &answers[0].1["expire_time"];
    let found = server.reservations().get_reservation(get("e")).await.expect("it stays").into_inner();
    assert_eq!(found.reservation.expect("it").expire_time, Some(parse(expire_time)));
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_ended_or_confirmed_reservation_is_refused_as_such() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let mut client = server.reservations();
    hold(&server, "e", "ann", 1).await;
    client.confirm(confirm("e", "ann")).await.expect("confirmed");
    for call in [Call::from(confirm("e", "ann")), extend("e", "ann").into()] {
        let status = assert_refused(call.send(&server).await, FailedPrecondition, "NOT_HELD");
        assert_metadata(&status, &[("state", "CONFIRMED")]);
        assert_precondition(&status, "NOT_HELD", "e");
    }
    client.cancel(cancel("e", "ann")).await.expect("cancelled");
    let calls: [Call; 4] =
        [confirm("e", "ann").into(), cancel("e", "ann").into(), extend("e", "ann").into(), amend("e", "ann", 1).into()];
    for call in calls {
        let status = assert_refused(call.send(&server).await, FailedPrecondition, "NOT_LIVE");
        assert_metadata(&status, &[("state", "CANCELLED")]);
        assert_precondition(&status, "NOT_LIVE", "e");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn limits_are_returned_with_the_requested_value() {
    let server = TestServer::start().await;
    let limits = EventLimits { max_quantity: Some(3), max_extensions: Some(1), ..Default::default() };
    server
        .event_with(pb::Event { event_id: "e".into(), capacity: 9, limits: Some(limits), ..Default::default() })
        .await;
    hold(&server, "e", "ann", 2).await;
    let calls: [(Call, &str, &str); 4] = [
        (ReserveRequest { quantity: 4, ..reserve("e", "bob") }.into(), "4", "3"),
        (amend("e", "ann", 4).into(), "4", "3"),
        (ConfirmRequest { quantity: Some(3), ..confirm("e", "ann") }.into(), "3", "2"),
        (CancelRequest { quantity: Some(3), request_id: new_id(), ..cancel("e", "ann") }.into(), "3", "2"),
    ];
    for (call, asked, limit) in calls {
        let status = assert_refused(call.send(&server).await, FailedPrecondition, "QUANTITY_LIMIT");
        assert_metadata(&status, &[("asked", asked), ("limit", limit)]);
        assert_precondition(&status, "QUANTITY_LIMIT", "e");
    }
    let hour = crate::support::millis(3_600_001);
    let too_long: [(Call, &str); 2] = [
        (ReserveRequest { hold_ttl: hour, ..reserve("e", "bob") }.into(), "hold_ttl"),
        (ExtendRequest { ttl: hour, ..extend("e", "ann") }.into(), "ttl"),
    ];
    for (call, field) in too_long {
        let status = assert_refused(call.send(&server).await, FailedPrecondition, "HOLD_TTL_LIMIT");
        assert_metadata(&status, &[("field", field), ("limit", "1h")]);
    }
    server.reservations().extend(extend("e", "ann")).await.expect("once");
    let status = server.reservations().extend(extend("e", "ann")).await;
    let status = assert_refused(status, FailedPrecondition, "EXTENSION_LIMIT");
    assert_metadata(&status, &[("limit", "1")]);
    assert_precondition(&status, "EXTENSION_LIMIT", "e");

    let event = Some(pb::Event { event_id: "e".into(), capacity: 1, ..Default::default() });
    let status = server.events().update_event(UpdateEventRequest { event, ..Default::default() }).await;
    let status = assert_refused(status, FailedPrecondition, "CAPACITY_BELOW_RESERVED");
    assert_metadata(&status, &[("capacity", "1"), ("reserved", "2")]);
    let update = async |limits: EventLimits| {
        let event = Some(pb::Event { event_id: "e".into(), limits: Some(limits), ..Default::default() });
        server.events().update_event(UpdateEventRequest { event, ..Default::default() }).await
    };
    update(EventLimits { hold_ttl_default: crate::support::millis(2000), ..Default::default() })
        .await
        .expect("it fits");
    let short = EventLimits { hold_ttl_max: crate::support::millis(1000), ..Default::default() };
    let conflict = assert_refused(update(short).await, FailedPrecondition, "DEFINITION_CONFLICT");
    assert_eq!(bad_fields(&conflict), ["event.limits.hold_ttl_default"]);
    assert_precondition(&status, "CAPACITY_BELOW_RESERVED", "e");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_stale_etag_is_refused_with_the_current_one() {
    let server = TestServer::start().await;
    let old = server.event("e", 5).await;
    let held = hold(&server, "e", "ann", 1).await;
    assert_eq!(server.get_event("e").await.etag, old.etag, "a reservation does not move the event's etag");
    let renamed = pb::Event { event_id: "e".into(), display_name: "new".into(), ..Default::default() };
    let rename = UpdateEventRequest { event: Some(renamed), etag: old.etag.clone(), ..Default::default() };
    server.events().update_event(rename).await.expect("nobody else has changed it");
    let (stale, now) = (old.etag, server.get_event("e").await);
    assert_ne!(stale, now.etag);
    let event = Some(pb::Event { event_id: "e".into(), capacity: 9, ..Default::default() });
    let (event_id, etag) = (|| "e".to_owned(), || stale.clone());
    let of_event: [Call; 4] = [
        UpdateEventRequest { event, etag: etag(), ..Default::default() }.into(),
        OpenEventRequest { event_id: event_id(), etag: etag(), ..Default::default() }.into(),
        CloseEventRequest { event_id: event_id(), etag: etag(), ..Default::default() }.into(),
        CancelEventRequest { event_id: event_id(), etag: etag(), ..Default::default() }.into(),
    ];
    for strategy in STRATEGIES {
        let expected_event_version = Some(old.version);
        let call = ReserveRequest { expected_event_version, options: with(strategy), ..reserve("e", "bob") };
        let status = assert_refused(server.reserve(call).await, Aborted, "EVENT_VERSION_MISMATCH");
        assert_metadata(&status, &[("event_version", &now.version.to_string())]);
    }
    let of_reservation: [Call; 4] = [
        ConfirmRequest { etag: etag(), ..confirm("e", "ann") }.into(),
        CancelRequest { etag: etag(), ..cancel("e", "ann") }.into(),
        ExtendRequest { etag: etag(), ..extend("e", "ann") }.into(),
        AmendRequest { etag: etag(), ..amend("e", "ann", 2) }.into(),
    ];
    for (calls, current) in [(of_event.to_vec(), now.etag), (of_reservation.to_vec(), held.etag)] {
        for call in calls {
            let status = assert_refused(call.send(&server).await, Aborted, "ETAG_MISMATCH");
            assert_metadata(&status, &[("current_etag", &current)]);
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn events_change_state_only_along_the_allowed_transitions() {
    let server = TestServer::start().await;
    let event_id = || "e".to_owned();
    server.event("e", 5).await;
    let open = || Call::from(OpenEventRequest { event_id: event_id(), ..Default::default() });
    let close = || Call::from(CloseEventRequest { event_id: event_id(), ..Default::default() });
    let cancel = || Call::from(CancelEventRequest { event_id: event_id(), ..Default::default() });
    let event = pb::Event { event_id: "e".into(), capacity: 9, ..Default::default() };
    let update = || Call::from(UpdateEventRequest { event: Some(event.clone()), ..Default::default() });
    let conflict = async |call: Call, state: &str| {
        let status = assert_refused(call.send(&server).await, FailedPrecondition, "EVENT_STATE_CONFLICT");
        assert_metadata(&status, &[("state", state)]);
        assert_precondition(&status, "EVENT_STATE_CONFLICT", "e");
    };
    conflict(open(), "OPEN").await;
    close().send(&server).await.expect("it was open");
    conflict(close(), "CLOSED").await;
    open().send(&server).await.expect("it was closed");
    cancel().send(&server).await.expect("it was live");
    for call in [open(), close(), cancel(), update()] {
        conflict(call, "CANCELLED").await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_request_id_stands_for_one_payload() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let request = ReserveRequest { request_id: "r".into(), ..reserve("e", "ann") };
    server.reservations().reserve(request.clone()).await.expect("there is room");
    let others: [Call; 3] = [
        ReserveRequest { quantity: 2, ..request }.into(),
        ConfirmRequest { request_id: "r".into(), ..confirm("e", "ann") }.into(),
        CloseEventRequest { event_id: "e".into(), request_id: "r".into(), ..Default::default() }.into(),
    ];
    for call in others {
        let status = assert_refused(call.send(&server).await, FailedPrecondition, "REQUEST_ID_REUSED");
        assert_precondition(&status, "REQUEST_ID_REUSED", "e");
    }
    server.check_and_stop().await;
}
