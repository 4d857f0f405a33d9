//! What REQUEST_ID_REUSED tells of the first use of a request_id.

use reservd::rpc::pb::{self, *};
use tonic::{Code::FailedPrecondition, Status};

use super::{amend, cancel, confirm, extend};
use crate::support::{
    Call, Guarded, TestServer, assert_refused, entry_of_user, join, metadata, own_metadata, reserve, strict,
};

/// The first use that a status tells of: its RPC, its reservation, its waitlist entry.
fn first_use(status: &Status) -> (String, Option<String>, Option<String>) {
    let mut told = own_metadata(status);
    assert!(told.remove("first_time").is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{status:?}");
    let rpc = told.remove("first_rpc").expect("the RPC is told");
    let ids = (told.remove("first_reservation_id"), told.remove("first_entry_id"));
    assert!(told.is_empty(), "{told:?}");
    (rpc, ids.0, ids.1)
}

#[tokio::test]
async fn a_reused_request_id_tells_the_rpc_the_time_and_the_reservation_of_its_first_use() {
    let server = TestServer::start().await;
    server.event_with_waitlist("e", 3, strict()).await;
    let event = || "e".to_owned();
    let id = |rpc: &str| format!("first-{rpc}");
    let update = pb::Event { event_id: event(), display_name: "new".into(), ..Default::default() };
    let uses: Vec<(Call, &str, &str)> = vec![
        (ReserveRequest { request_id: id("Reserve"), ..reserve("e", "ann") }.into(), "Reserve", "ann"),
        (ExtendRequest { request_id: id("Extend"), ..extend("e", "ann") }.into(), "Extend", "ann"),
        (AmendRequest { request_id: id("Amend"), ..amend("e", "ann", 2) }.into(), "Amend", "ann"),
        (ConfirmRequest { request_id: id("Confirm"), ..confirm("e", "ann") }.into(), "Confirm", "ann"),
        (ReserveRequest { confirm: true, request_id: id("confirmed"), ..reserve("e", "bob") }.into(), "Reserve", "bob"),
        (JoinWaitlistRequest { request_id: id("JoinWaitlist"), ..join("e", "cid", 1) }.into(), "JoinWaitlist", "cid"),
        (
            LeaveWaitlistRequest {
                event_id: event(),
                entry: entry_of_user("cid"),
                request_id: id("LeaveWaitlist"),
                ..Default::default()
            }
            .into(),
            "LeaveWaitlist",
            "cid",
        ),
        (CancelRequest { quantity: Some(1), request_id: id("part"), ..cancel("e", "ann") }.into(), "Cancel", "ann"),
        (CancelRequest { request_id: id("Cancel"), ..cancel("e", "ann") }.into(), "Cancel", "ann"),
        (
            UpdateEventRequest { event: Some(update), request_id: id("UpdateEvent"), ..Default::default() }.into(),
            "UpdateEvent",
            "",
        ),
        (
            CloseEventRequest { event_id: event(), request_id: id("CloseEvent"), ..Default::default() }.into(),
            "CloseEvent",
            "",
        ),
        (
            OpenEventRequest { event_id: event(), request_id: id("OpenEvent"), ..Default::default() }.into(),
            "OpenEvent",
            "",
        ),
    ];
    let request_ids: Vec<_> = uses.iter().map(|(call, ..)| request_id(call)).collect();
    for (call, ..) in &uses {
        call.clone().send(&server).await.unwrap_or_else(|status| panic!("{call:?}: {status:?}"));
    }
    for ((_, rpc, user), request_id) in uses.iter().zip(request_ids) {
        let again = ReserveRequest { request_id, ..reserve("e", "eve") };
        let status = assert_refused(server.reserve(again).await, FailedPrecondition, "REQUEST_ID_REUSED");
        let (told, reservation_id, entry_id) = first_use(&status);
        assert_eq!(told, *rpc, "{status:?}");
        let is_entry = rpc.ends_with("Waitlist");
        let reserved = if user.is_empty() || is_entry { None } else { Some(server.reservation("e", user).await) };
        assert_eq!(reservation_id, reserved.map(|it| it.reservation_id));
        let entry = if is_entry { server.entry("e", user).await.entry } else { None };
        assert_eq!(entry_id, entry.map(|it| it.entry_id));
        assert!(status.message().contains(rpc), "{}", status.message());
    }
    server.check_and_stop().await;
}

fn request_id(call: &Call) -> String {
    match call {
        Call::Reserve(it) => it.request_id.clone(),
        Call::Extend(it) => it.request_id.clone(),
        Call::Amend(it) => it.request_id.clone(),
        Call::Confirm(it) => it.request_id.clone(),
        Call::Cancel(it) => it.request_id.clone(),
        Call::JoinWaitlist(it) => it.request_id.clone(),
        Call::LeaveWaitlist(it) => it.request_id.clone(),
        Call::UpdateEvent(it) => it.request_id.clone(),
        Call::CloseEvent(it) => it.request_id.clone(),
        Call::OpenEvent(it) => it.request_id.clone(),
        other => panic!("{other:?} is not used here"),
    }
}

#[tokio::test]
async fn who_manages_events_is_told_of_no_users_reservation() {
    let guarded = Guarded::start().await;
    guarded.event("concert", 10).await;
    let first = ReserveRequest { request_id: "r".into(), ..reserve("concert", "ann") };
    let made = guarded.service("shop").reservations().reserve(first.clone()).await.expect("a place").into_inner();
    let made = made.reservation.expect("it is in the answer");
    let manager = guarded.caller("planner", &["event.manager"]);
    let close = CloseEventRequest { event_id: "concert".into(), request_id: "r".into(), ..Default::default() };
    let closed = manager.events().close_event(close).await;
    let event = Some(pb::Event { event_id: "concert".into(), capacity: 1, ..Default::default() });
    let create = CreateEventRequest { event, request_id: "r".into(), ..Default::default() };
    let created = manager.events().create_event(create).await;
    for status in [closed.map(drop), created.map(drop)] {
        let status = assert_refused(status, FailedPrecondition, "REQUEST_ID_REUSED");
        assert_eq!(first_use(&status), ("Reserve".into(), None, None));
    }
    let other = ReserveRequest { quantity: 2, ..first };
    let reused = guarded.service("shop").reservations().reserve(other).await;
    let status = assert_refused(reused, FailedPrecondition, "REQUEST_ID_REUSED");
    assert_eq!(metadata(&status)["first_reservation_id"], made.reservation_id);
    guarded.check_and_stop().await;
}
