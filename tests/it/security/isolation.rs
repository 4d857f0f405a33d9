//! Users are isolated: another user's object behaves exactly like a missing one.

use prost::Message;
use reservd::{
    auth::permissions::{Need, TABLE},
    rpc::pb::{self, ReservationState},
};
use tonic::{Code, Status};

use crate::support::{
    Client, Guarded, TestRedis, all, assert_refused, by_id, entry_by_id, entry_of_user, join, metadata, of_user,
    reason, reserve, strict,
};

/// A UUID without a reservation.
const MISSING_ID: &str = "0190b6d4-5b7e-7c3a-9f00-0123456789ab";

/// The information in a response, without its own ids and times, and without the ids that its caller sent.
fn lesson(answer: Result<Vec<u8>, Status>, hers: [&str; 2]) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => {
            let told = format!("{:?} {} {:?}", status.code(), status.message(), metadata(&status));
            let told = hers.into_iter().fold(told, |told, id| told.replace(id, MISSING_ID));
            format!("{told} {}", status.details().len())
        }
    }
}

/// Pairs of requests of an RPC: one for an object of Ann's, and one for a missing object.
fn pairs(method: &str, ann: &pb::Reservation, waits: &str, session: &str, request_id: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let nobodys_session = "A".repeat(43);
    let entries = [(entry_by_id(waits), entry_by_id(MISSING_ID)), (entry_of_user("ann"), entry_of_user("absent"))];
    let selectors = [(by_id(&ann.reservation_id), by_id(MISSING_ID)), (of_user("ann"), of_user("absent"))];
    /// A request of this type for each selector, with her request_id and without one.
    macro_rules! on_reservation {
        ($request:ident { $($field:ident: $value:expr),* }) => {
            selectors.into_iter().flat_map(|(hers, nobodys)| {
                [(request_id, "unused"), ("", "")].map(|(id, other)| {
                    let make = |reservation, request_id: &str| pb::$request {
                        event_id: "concert".into(), reservation, request_id: request_id.into(),
                        $($field: $value,)* ..Default::default()
                    }.encode_to_vec();
                    (make(hers.clone(), id), make(nobodys.clone(), other))
                })
            }).collect()
        };
    }
    match method {
        "Confirm" => on_reservation!(ConfirmRequest {}),
        "Cancel" => on_reservation!(CancelRequest {}),
        "Extend" => on_reservation!(ExtendRequest {}),
        "Amend" => on_reservation!(AmendRequest { quantity: Some(2) }),
        "GetReservation" => {
            let get =
                |reservation| pb::GetReservationRequest { event_id: "concert".into(), reservation }.encode_to_vec();
            selectors.into_iter().map(|(hers, nobodys)| (get(hers), get(nobodys))).collect()
        }
        "Reserve" => {
            let rehearse = |request_id: &str, user_id: &str| {
                let request = pb::ReserveRequest {
                    request_id: request_id.into(),
                    validate_only: true,
                    ..reserve("concert", user_id)
                };
                request.encode_to_vec()
            };
            vec![
                (rehearse(request_id, "bob"), rehearse("unused", "bob")),
                (rehearse("", "ann"), rehearse("", "absent")),
            ]
        }
        "ListReservations" => {
            let list = |event_id: &str, user_id: &str| {
                let request = pb::ListReservationsRequest {
                    event_id: event_id.into(),
                    user_id: user_id.into(),
                    ..Default::default()
                };
                request.encode_to_vec()
            };
            vec![(list("concert", "ann"), list("concert", "absent")), (list("", "ann"), list("", "absent"))]
        }
        "ListChanges" => {
            let list = |user_id: &str, reservation_id: &str| {
                let request = pb::ListChangesRequest {
                    event_id: "concert".into(),
                    user_id: user_id.into(),
                    reservation_id: reservation_id.into(),
                    ..Default::default()
                };
                request.encode_to_vec()
            };
            vec![(list("ann", ""), list("absent", "")), (list("", &ann.reservation_id), list("", MISSING_ID))]
        }
        "JoinWaitlist" => {
            let join = |user_id: &str, request_id: &str| {
                let request = pb::JoinWaitlistRequest {
                    event_id: "gig".into(),
                    user_id: user_id.into(),
                    quantity: 1,
                    request_id: request_id.into(),
                    validate_only: true,
                    ..Default::default()
                };
                request.encode_to_vec()
            };
            vec![(join("ann", ""), join("absent", "")), (join("bob", request_id), join("bob", "unused"))]
        }
        "AmendWaitlistEntry" => {
            let amend = |entry, request_id: &str| {
                let request = pb::AmendWaitlistEntryRequest {
                    event_id: "gig".into(),
                    entry,
                    quantity: Some(1),
                    request_id: request_id.into(),
                    ..Default::default()
                };
                request.encode_to_vec()
            };
            entries.into_iter().map(|(hers, nobodys)| (amend(hers, request_id), amend(nobodys, "unused"))).collect()
        }
        "LeaveWaitlist" => {
            let leave = |entry, request_id: &str| {
                let request = pb::LeaveWaitlistRequest {
                    event_id: "gig".into(),
                    entry,
                    request_id: request_id.into(),
                    ..Default::default()
                };
                request.encode_to_vec()
            };
            entries.into_iter().map(|(hers, nobodys)| (leave(hers, request_id), leave(nobodys, "unused"))).collect()
        }
        "GetWaitlistEntry" => {
            let get = |entry| pb::GetWaitlistEntryRequest { event_id: "gig".into(), entry }.encode_to_vec();
            entries.into_iter().map(|(hers, nobodys)| (get(hers), get(nobodys))).collect()
        }
        "ListWaitlist" => {
            let list = |event_id: &str, user_id: &str| {
                let request = pb::ListWaitlistRequest {
                    event_id: event_id.into(),
                    user_id: user_id.into(),
                    ..Default::default()
                };
                request.encode_to_vec()
            };
            vec![(list("gig", "ann"), list("gig", "absent")), (list("", "ann"), list("", "absent"))]
        }
        "GetSession" => {
            let get = |id: &str| pb::GetSessionRequest { session_id: id.into() }.encode_to_vec();
            vec![(get(session), get(&nobodys_session))]
        }
        "RevokeSession" => {
            let revoke = |id: &str| pb::RevokeSessionRequest { session_id: id.into() }.encode_to_vec();
            vec![(revoke(session), revoke(&nobodys_session))]
        }
        "ListSessions" => {
            let list = |user_id: &str| pb::ListSessionsRequest { user_id: user_id.into(), ..Default::default() };
            vec![(list("ann").encode_to_vec(), list("absent").encode_to_vec())]
        }
        "RevokeUserSessions" => {
            let revoke = |user_id: &str| {
                pb::RevokeUserSessionsRequest { user_id: user_id.into(), ..Default::default() }.encode_to_vec()
            };
            vec![(revoke("ann"), revoke("absent"))]
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_user_cannot_distinguish_another_users_object_from_a_missing_one() {
    let guarded = Guarded::with(&TestRedis::new().await.settings()).await;
    guarded.event("concert", 10).await;
    let (ann, bob) = (guarded.user("ann"), guarded.user("bob"));
    let hers = pb::CreateSessionRequest { user_id: "ann".into(), ..Default::default() };
    let hers = guarded.service("shop").sessions().create_session(hers).await.expect("a session").into_inner();
    let session = hers.session.expect("it is in the answer").session_id;
    let wanted = pb::ReserveRequest { request_id: "order-7".into(), ..reserve("concert", "ann") };
    let held = ann
        .reservations()
        .reserve(wanted.clone())
        .await
        .expect("hers")
        .into_inner()
        .reservation
        .expect("it is in the answer");

    let unguarded = guarded.unguarded();
    unguarded.event_with_waitlist("gig", 1, strict()).await;
    unguarded.reserve(reserve("gig", "zoe")).await.expect("the only place");
    let wish = pb::JoinWaitlistRequest { request_id: "order-7".into(), ..join("gig", "ann", 1) };
    let waits = ann
        .waitlist()
        .join_waitlist(wish)
        .await
        .expect("a turn")
        .into_inner()
        .entry
        .expect("it is in the answer")
        .entry_id;

    for (path, need) in TABLE {
        let Need::Role { own: true, .. } = need else { continue };
        let pairs = pairs(path.rsplit_once('/').expect("a path").1, &held, &waits, &session, "order-7");
        assert!(!pairs.is_empty(), "{path} is open to users, and nothing here tries to see another's through it");
        for (place, (hers, nobodys)) in pairs.into_iter().enumerate() {
            let (touched, untouched) = (bob.raw(path, hers).await, bob.raw(path, nobodys).await);
            let hers = [held.reservation_id.as_str(), waits.as_str()];
            assert_eq!(lesson(touched, hers), lesson(untouched, hers), "{path}, pair {place}");
        }
    }
    // No request had an effect, and her request_id still replays her own request.
    let again = ann.reservations().reserve(wanted).await.expect("answered again").into_inner();
    assert!(again.execution.expect("it is in the answer").replayed);
    assert_eq!(again.reservation, Some(held));
    let get = pb::GetSessionRequest { session_id: session };
    ann.sessions().get_session(get).await.expect("her session is there, and hers");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_user_reserves_for_itself_and_reads_only_its_own_data() {
    let guarded = Guarded::start().await;
    guarded.event("concert", 10).await;
    let (ann, bob) = (guarded.user("ann"), guarded.user("bob"));
    let denied = bob.reservations().reserve(reserve("concert", "ann")).await;
    assert_refused(denied, Code::PermissionDenied, "USER_MISMATCH");
    ann.reservations().reserve(reserve("concert", "ann")).await.expect("for herself");
    bob.reservations().reserve(reserve("concert", "bob")).await.expect("for himself");

    let list = async |client: &Client, request| {
        let listed = client.reservations().list_reservations(request).await.expect("a list").into_inner();
        listed.reservations.into_iter().map(|it| it.user_id).collect::<Vec<_>>()
    };
    let of_event = || pb::ListReservationsRequest { event_id: "concert".into(), ..Default::default() };
    assert_eq!(list(&ann, of_event()).await, ["ann"]);
    assert_eq!(list(&bob, of_event()).await, ["bob"]);
    assert_eq!(list(&bob, pb::ListReservationsRequest::default()).await, ["bob"], "all of bob's");
    assert_eq!(list(&guarded.service("shop"), of_event()).await, ["ann", "bob"]);
    assert_eq!(list(&guarded.caller("eye", &["reader"]), of_event()).await, ["ann", "bob"]);
    let hers = pb::ListReservationsRequest { user_id: "ann".into(), ..of_event() };
    assert_refused(bob.reservations().list_reservations(hers).await, Code::PermissionDenied, "USER_MISMATCH");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_user_joins_the_waitlist_for_itself_and_reads_its_own_history() {
    let guarded = Guarded::start().await;
    let (ann, bob, shop) = (guarded.user("ann"), guarded.user("bob"), guarded.service("shop"));
    guarded.unguarded().event_with_waitlist("gig", 1, strict()).await;
    shop.reservations().reserve(reserve("gig", "zoe")).await.expect("the only place");
    let denied = bob.waitlist().join_waitlist(join("gig", "ann", 1)).await;
    assert_refused(denied, Code::PermissionDenied, "USER_MISMATCH");
    let wish = pb::JoinWaitlistRequest { request_id: "1".into(), ..join("gig", "ann", 1) };
    ann.waitlist().join_waitlist(wish).await.expect("a turn");
    shop.waitlist().join_waitlist(join("gig", "bob", 1)).await.expect("for any user");
    let cancel = pb::CancelRequest { event_id: "gig".into(), reservation: of_user("zoe"), ..Default::default() };
    shop.reservations().cancel(cancel).await.expect("of any user");

    let history = async |client: &Client| {
        let request = pb::ListChangesRequest { event_id: "gig".into(), ..Default::default() };
        let changes = client.feed().list_changes(request).await.expect("a history").into_inner().changes;
        let told = |it: pb::Change| (it.kind().as_str_name(), it.request_id, it.actor);
        changes.into_iter().map(told).collect::<Vec<_>>()
    };
    let change = |kind, request_id: &str, actor: &str| (kind, request_id.to_owned(), actor.to_owned());
    let joined = change("CHANGE_KIND_WAITLIST_JOINED", "1", "token:ann");
    let promoted = change("CHANGE_KIND_WAITLIST_PROMOTED", "", "");
    assert_eq!(history(&ann).await, [joined, promoted]);
    assert_eq!(history(&bob).await, [change("CHANGE_KIND_WAITLIST_JOINED", "", "token:shop")]);
    assert_eq!(history(&shop).await.len(), 6, "created, held, joined twice, cancelled, promoted");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_request_id_is_separate_for_each_user() {
    let guarded = Guarded::start().await;
    guarded.event("concert", 10).await;
    for user_id in ["ann", "bob"] {
        let wanted = pb::ReserveRequest { request_id: "1".into(), ..reserve("concert", user_id) };
        for replayed in [false, true] {
            let answer =
                guarded.user(user_id).reservations().reserve(wanted.clone()).await.expect("a place").into_inner();
            assert_eq!(answer.reservation.expect("it is in the answer").user_id, user_id);
            assert_eq!(answer.execution.expect("it is in the answer").replayed, replayed);
        }
        let other = pb::ReserveRequest { quantity: 2, ..wanted };
        let reused = guarded.user(user_id).reservations().reserve(other).await;
        assert_refused(reused, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_user_only() {
    let guarded = Guarded::start().await;
    let (ann, bob) = (guarded.user("ann"), guarded.user("bob"));
    for event_id in ["a", "b", "c"] {
        guarded.event(event_id, 10).await;
        ann.reservations().reserve(reserve(event_id, "ann")).await.expect("a place");
        bob.reservations().reserve(reserve(event_id, "bob")).await.expect("a place");
    }
    let first = pb::ListReservationsRequest { page_size: 1, ..Default::default() };
    let page = ann.reservations().list_reservations(first.clone()).await.expect("a page").into_inner();
    let next = pb::ListReservationsRequest { page_token: page.next_page_token, ..first };
    let hers = ann.reservations().list_reservations(next.clone()).await.expect("the next page").into_inner();
    assert_eq!(hers.reservations.iter().map(|it| (&*it.event_id, &*it.user_id)).collect::<Vec<_>>(), [("b", "ann")]);
    for other in [&bob, &guarded.service("shop")] {
        let answer = other.reservations().list_reservations(next.clone()).await;
        let why = reason(&answer.expect_err("it is not theirs"));
        assert!(["PAGE_TOKEN_INVALID", "FIELD_INVALID"].contains(&why.as_str()), "{why}");
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_concurrent_attempt_never_reaches_another_users_reservation() {
    let guarded = Guarded::start().await;
    guarded.event("concert", 10).await;
    let (ann, bob) = (guarded.user("ann"), guarded.user("bob"));
    for strategy in crate::support::STRATEGIES {
        let options = crate::support::with(strategy);
        let held = ann.reservations().reserve(pb::ReserveRequest { options, ..reserve("concert", "ann") }).await;
        let id = held.expect("a place").into_inner().reservation.expect("it is in the answer").reservation_id;
        let tries = (0..8).map(|_| {
            let cancel = pb::CancelRequest {
                event_id: "concert".into(),
                reservation: by_id(&id),
                options,
                ..Default::default()
            };
            let mut client = bob.reservations();
            async move { client.cancel(cancel).await }
        });
        for answer in all(tries).await {
            assert_refused(answer, Code::NotFound, "RESERVATION_NOT_FOUND");
        }
        let cancel =
            pb::CancelRequest { event_id: "concert".into(), reservation: by_id(&id), options, ..Default::default() };
        let cancelled = ann.reservations().cancel(cancel).await.expect("it is hers").into_inner().reservation;
        assert_eq!(cancelled.expect("it is in the answer").state(), ReservationState::Cancelled);
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn two_services_share_all_reservations() {
    let guarded = Guarded::start().await;
    guarded.event("concert", 10).await;
    let (shop, desk) = (guarded.service("shop"), guarded.service("desk"));
    let wanted = pb::ReserveRequest { request_id: "order-7".into(), ..reserve("concert", "ann") };
    let held = shop.reservations().reserve(wanted.clone()).await.expect("a place").into_inner().reservation;
    let get = || pb::GetReservationRequest { event_id: "concert".into(), reservation: of_user("ann") };
    for service in [&shop, &desk] {
        let seen = service.reservations().get_reservation(get()).await.expect("any user's").into_inner().reservation;
        assert_eq!(seen, held);
        // Either service can repeat the other's request: services share request_ids.
        let again = service.reservations().reserve(wanted.clone()).await.expect("answered again").into_inner();
        assert!(again.execution.expect("it is in the answer").replayed);
        assert_eq!(again.reservation, held);
    }
    let list = || pb::ListReservationsRequest { event_id: "concert".into(), page_size: 1, ..Default::default() };
    desk.reservations().reserve(reserve("concert", "bob")).await.expect("a place");
    let page = shop.reservations().list_reservations(list()).await.expect("a page").into_inner();
    let next = pb::ListReservationsRequest { page_token: page.next_page_token, ..list() };
    desk.reservations().list_reservations(next).await.expect("the next page");
    let cancel = pb::CancelRequest { event_id: "concert".into(), reservation: of_user("ann"), ..Default::default() };
    desk.reservations().cancel(cancel).await.expect("what the other reserved");
    guarded.check_and_stop().await;
}
