//! Finding reservations, and who the caller is.

use reservd::rpc::pb::{self, *};
use tonic::Code;

use crate::support::{Guarded, TestServer, assert_refused, bad_fields, of_user, reserve};

async fn found(server: &TestServer, request: SearchReservationsRequest) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut request = SearchReservationsRequest { page_size: 2, ..request };
    loop {
        let page = server.reservations().search_reservations(request.clone()).await.expect("a page").into_inner();
        found.extend(page.reservations.into_iter().map(|one| (one.event_id, one.user_id)));
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn a_search_finds_by_user_label_state_and_time_the_newest_first() {
    let server = TestServer::start().await;
    for id in ["a", "b"] {
        server.event(id, 50).await;
    }
    let order = |order: &str| [("order".to_owned(), order.to_owned())].into();
    for (event_id, user, labels) in [
        ("a", "ann", order("7")),
        ("a", "anna", order("8")),
        ("b", "ann", order("7")),
        ("b", "an~", Default::default()),
        ("b", "bob", order("7")),
        ("b", "AN", Default::default()),
    ] {
        server.reserve(ReserveRequest { labels, ..reserve(event_id, user) }).await.expect("there is room");
    }
    let confirm = ConfirmRequest { event_id: "a".into(), reservation: of_user("anna"), ..Default::default() };
    let confirmed = server.reservations().confirm(confirm).await.expect("held").into_inner().reservation;
    let since = confirmed.expect("it").create_time;

    let all = SearchReservationsRequest::default;
    let pair = |event_id: &str, user: &str| (event_id.to_owned(), user.to_owned());
    let prefix = SearchReservationsRequest { user_id_prefix: "an".into(), ..all() };
    let everyone = [pair("b", "an~"), pair("b", "ann"), pair("a", "anna"), pair("a", "ann")];
    assert_eq!(found(&server, prefix.clone()).await, everyone);
    let label = Some(LabelSelector { key: "order".into(), value: "7".into() });
    let by_label = SearchReservationsRequest { label, ..all() };
    assert_eq!(found(&server, by_label.clone()).await, [pair("b", "bob"), pair("b", "ann"), pair("a", "ann")]);
    let both = SearchReservationsRequest { event_id: "a".into(), ..by_label };
    assert_eq!(found(&server, both).await, [pair("a", "ann")]);
    let states = vec![ReservationState::Confirmed.into()];
    let in_state = SearchReservationsRequest { states, ..prefix.clone() };
    assert_eq!(found(&server, in_state).await, [pair("a", "anna")]);
    let later = SearchReservationsRequest { create_time_from: since, ..prefix.clone() };
    assert_eq!(found(&server, later).await, everyone[..3]);
    let earlier = SearchReservationsRequest { create_time_before: since, ..prefix };
    assert_eq!(found(&server, earlier).await, everyone[3..]);

    let refused = async |request: SearchReservationsRequest| {
        let status = server.reservations().search_reservations(request).await;
        bad_fields(&assert_refused(status, Code::InvalidArgument, "FIELD_INVALID"))
    };
    assert_eq!(refused(all()).await, ["event_id"]);
    let bad = Some(LabelSelector { key: "No".into(), value: String::new() });
    assert_eq!(
        refused(SearchReservationsRequest { label: bad, user_id_prefix: " ".into(), ..all() }).await,
        ["user_id_prefix", "label"]
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_time_bound_is_compared_to_the_nanosecond() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let made = server.reserve(reserve("e", "ann")).await.expect("there is room").reservation;
    let time = made.create_time.expect("it has one");
    let after = Some(prost_types::Timestamp { nanos: time.nanos + 1, ..time });
    let changes = async |from, before| {
        let request = ListChangesRequest {
            event_id: "e".into(),
            reservation_id: made.reservation_id.clone(),
            change_time_from: from,
            change_time_before: before,
            ..Default::default()
        };
        server.feed().list_changes(request).await.expect("a page").into_inner().changes.len()
    };
    assert_eq!((changes(Some(time), None).await, changes(after, None).await), (1, 0));
    assert_eq!((changes(None, Some(time)).await, changes(None, after).await), (0, 1));
    server.check_and_stop().await;
}

#[tokio::test]
async fn every_caller_can_ask_who_it_is_and_what_it_may_do() {
    let guarded = Guarded::start().await;
    let caller = async |client: crate::support::Client| {
        let answer = client.callers().get_caller(GetCallerRequest {}).await.expect("who it is").into_inner();
        answer.caller.expect("it")
    };
    let ann = caller(guarded.user("ann")).await;
    assert_eq!(
        (ann.principal.as_str(), ann.user_id.as_str(), ann.roles),
        ("token:ann", "ann", vec![Role::User.into()])
    );
    assert!(ann.expire_time.is_some());
    let may = |caller: &[String], method: &str| caller.iter().any(|it| it == &format!("reservd.v1.{method}"));
    assert!(may(&ann.methods, "ReservationService/Reserve") && !may(&ann.methods, "EventService/CreateEvent"));
    let desk = caller(guarded.caller("desk", &["box_office"])).await;
    assert_eq!((desk.user_id.as_str(), desk.roles), ("", vec![Role::BoxOffice.into()]));
    assert!(may(&desk.methods, "ReservationService/Reserve") && may(&desk.methods, "EventService/CreateEvent"));
    assert!(!may(&desk.methods, "SessionService/CreateSession"));
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn the_box_office_sells_and_changes_events_and_is_audited_by_name() {
    let guarded = Guarded::start().await;
    let desk = guarded.caller("desk-1", &["box_office"]);
    let event = Some(pb::Event { event_id: "e".into(), capacity: 2, ..Default::default() });
    let create = CreateEventRequest { event, ..Default::default() };
    desk.events().create_event(create).await.expect("it may");
    desk.reservations().reserve(reserve("e", "ann")).await.expect("for anybody");
    let changes = ListChangesRequest { event_id: "e".into(), ..Default::default() };
    let changes = desk.feed().list_changes(changes).await.expect("a history").into_inner().changes;
    let actors: Vec<_> = changes.iter().map(|change| change.actor.as_str()).collect();
    assert_eq!(actors, ["token:desk-1", "token:desk-1"]);
    guarded.check_and_stop().await;
}
