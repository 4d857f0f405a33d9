//! The refusals of the waitlist: each names its reason and changes nothing.

use reservd::rpc::pb::{self, WaitlistEntryState as State};
use tonic::Code::{self, Aborted, AlreadyExists, FailedPrecondition, NotFound};
use tonic_types::StatusExt;

use super::{cancel, full, leave};
use crate::support::{
    Call, STRATEGIES, TestServer, assert_refused, by_id, entry_of_user, join, metadata, of_user, own_metadata, reserve,
    strict, with,
};

#[track_caller]
fn assert_told(status: &tonic::Status, pairs: &[(&str, &str)]) {
    let wanted = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(own_metadata(status), wanted, "{status:?}");
}

#[tokio::test]
async fn waiting_entries_come_before_newcomers_under_every_strategy() {
    let server = TestServer::start().await;
    full(&server, "e", 3, strict()).await;
    server.join(join("e", "bob", 2)).await.expect("it is sold out");
    server.cancel(cancel("e", "ann", 1)).await.expect("she has three");
    for strategy in STRATEGIES {
        let options = with(strategy);
        let new = pb::ReserveRequest { options, ..reserve("e", "new") };
        let status = assert_refused(server.reserve(new).await, FailedPrecondition, "WAITLIST_AHEAD");
        assert_told(&status, &[("asked", "1"), ("waiting", "1")]);
        let violations = status.get_details_precondition_failure().expect("a PreconditionFailure").violations;
        assert_eq!((&*violations[0].r#type, &*violations[0].subject), ("WAITLIST_AHEAD", "e"));
        let own = pb::ReserveRequest { options, ..reserve("e", "bob") };
        assert_refused(server.reserve(own).await, FailedPrecondition, "WAITLIST_AHEAD");
        let more = pb::AmendRequest {
            event_id: "e".into(),
            reservation: of_user("ann"),
            quantity: Some(3),
            options,
            ..Default::default()
        };
        assert_refused(server.amend(more).await, FailedPrecondition, "WAITLIST_AHEAD");
    }
    let asked = server.events().get_availability(pb::GetAvailabilityRequest { event_id: "e".into() }).await;
    let told = asked.expect("it is there").into_inner().availability.expect("an answer");
    assert_eq!(
        (told.counts.unwrap_or_default().available, told.counts.unwrap_or_default().waiting),
        (1, 1),
        "free, but not for newcomers"
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_join_is_refused_for_its_reason() {
    let server = TestServer::start().await;
    full(&server, "e", 3, pb::WaitlistPolicy { max_size: Some(1), ..strict() }).await;
    let capacity = Some(pb::Event {
        event_id: "free".into(),
        capacity: 3,
        waitlist: Some(strict()),
        limits: Some(pb::EventLimits { max_quantity: Some(4), ..Default::default() }),
        ..Default::default()
    });
    server.events().create_event(pb::CreateEventRequest { event: capacity, ..Default::default() }).await.expect("new");
    let bob = server.join(join("e", "bob", 1)).await.expect("it is sold out");
    server.leave(leave("e", "bob")).await.expect("it waits");
    let waiting = server.join(join("e", "bob", 1)).await.expect("one may come back");
    assert_ne!(waiting.entry_id, bob.entry_id);
    for strategy in STRATEGIES {
        let refused = async |request: pb::JoinWaitlistRequest, code: Code, why: &str| {
            let request = pb::JoinWaitlistRequest { options: with(strategy), ..request };
            assert_refused(server.join(request).await, code, why)
        };
        let status = refused(join("e", "bob", 2), AlreadyExists, "ALREADY_WAITING").await;
        assert_told(&status, &[("entry_id", &waiting.entry_id)]);
        let resource = status.get_details_resource_info().expect("a ResourceInfo");
        assert_eq!(
            (&*resource.resource_type, &resource.resource_name),
            ("reservd.v1.WaitlistEntry", &waiting.entry_id)
        );
        let status = refused(join("e", "ann", 1), AlreadyExists, "ALREADY_RESERVED").await;
        assert!(metadata(&status).contains_key("reservation_id"));
        let status = refused(join("e", "cid", 1), FailedPrecondition, "WAITLIST_FULL").await;
        assert_told(&status, &[("limit", "1")]);
        let status = refused(join("free", "cid", 2), FailedPrecondition, "NOT_SOLD_OUT").await;
        assert_told(&status, &[("asked", "2"), ("available", "3")]);
        let status = refused(join("free", "cid", 4), FailedPrecondition, "QUANTITY_LIMIT").await;
        assert_told(&status, &[("asked", "4"), ("limit", "3")]);
        let status = refused(join("free", "cid", 5), FailedPrecondition, "QUANTITY_LIMIT").await;
        assert_told(&status, &[("asked", "5"), ("limit", "4")]);
        refused(join("gone", "cid", 5), NotFound, "EVENT_NOT_FOUND").await;
        let stale = pb::JoinWaitlistRequest { expected_event_version: Some(1), ..join("e", "cid", 1) };
        refused(stale, Aborted, "EVENT_VERSION_MISMATCH").await;
    }
    server
        .events()
        .close_event(pb::CloseEventRequest { event_id: "e".into(), ..Default::default() })
        .await
        .expect("open");
    assert_refused(server.join(join("e", "cid", 1)).await, FailedPrecondition, "EVENT_NOT_OPEN");
    server.check_and_stop().await;
}

#[tokio::test]
async fn only_a_waiting_user_can_leave() {
    let server = TestServer::start().await;
    full(&server, "e", 1, strict()).await;
    let entry = server.join(join("e", "bob", 1)).await.expect("it is sold out");
    let stale = pb::LeaveWaitlistRequest { etag: "w1".into(), ..leave("e", "bob") };
    let status = assert_refused(server.leave(stale).await, Aborted, "ETAG_MISMATCH");
    assert_told(&status, &[("current_etag", &entry.etag)]);
    server.cancel(cancel("e", "ann", 0)).await.expect("it is hers");
    for strategy in STRATEGIES {
        let request = pb::LeaveWaitlistRequest { options: with(strategy), ..leave("e", "bob") };
        let status = assert_refused(server.leave(request).await, FailedPrecondition, "NOT_WAITING");
        assert_told(&status, &[("state", "PROMOTED")]);
    }
    // The offer can be cancelled like any reservation; it has the entry's id.
    let request = pb::CancelRequest { reservation: by_id(&entry.entry_id), ..cancel("e", "bob", 0) };
    server.cancel(request).await.expect("it is held");

    let calls: Vec<Call> = vec![
        leave("e", "absent").into(),
        pb::GetWaitlistEntryRequest { event_id: "e".into(), entry: entry_of_user("absent") }.into(),
        pb::GetWaitlistEntryRequest { event_id: "gone".into(), entry: entry_of_user("bob") }.into(),
    ];
    for call in calls {
        let status = assert_refused(call.send(&server).await, NotFound, "WAITLIST_ENTRY_NOT_FOUND");
        let resource = status.get_details_resource_info().expect("a ResourceInfo");
        assert_eq!(resource.resource_type, "reservd.v1.WaitlistEntry");
    }
    assert_refused(server.leave(leave("gone", "bob")).await, NotFound, "EVENT_NOT_FOUND");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_newcomer_may_overtake_only_with_units_that_fit_no_entry_before() {
    let server = TestServer::start().await;
    let policy = pb::WaitlistPolicy { newcomers_may_overtake: true, ..strict() };
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        full(&server, event_id, 4, policy).await;
        server.join(join(event_id, "bob", 3)).await.expect("it is sold out");
        server.join(join(event_id, "cid", 3)).await.expect("it is sold out");
        server.cancel(cancel(event_id, "ann", 2)).await.expect("she has four");
        server.reserve(pb::ReserveRequest { options, ..reserve(event_id, "new") }).await.expect("she may overtake");
        // A waiting user may reserve too, and then leaves the waitlist.
        server
            .reserve(pb::ReserveRequest { options, ..reserve(event_id, "cid") })
            .await
            .expect("a waiting user may as well");
        let cid = server.entry(event_id, "cid").await.entry.expect("it has joined");
        assert_eq!(cid.state(), State::Left);
        assert_eq!(server.history(event_id, Some("cid")).await, ["WAITLIST_JOINED", "WAITLIST_LEFT", "HELD"]);
        assert_eq!(server.get_event(event_id).await.counts.unwrap_or_default().waiting, 1);
    }
    server.check_and_stop().await;
}
