//! ListChanges: the changes of an event and its reservations, with their times and request_ids.

use reservd::rpc::pb::{self, ChangeKind, change::Subject};
use tonic::Code;

use crate::support::{TestServer, assert_refused, bad_fields, of_user, reserve};

async fn list(server: &TestServer, request: pb::ListChangesRequest) -> Vec<pb::Change> {
    let page = server.feed().list_changes(request).await.expect("a history can be listed").into_inner();
    assert_eq!(page.next_page_token, "", "it fits on a page");
    page.changes
}

fn of(event_id: &str) -> pb::ListChangesRequest {
    pb::ListChangesRequest { event_id: event_id.into(), ..Default::default() }
}

fn versions(changes: &[pb::Change]) -> Vec<i64> {
    changes.iter().map(|change| change.version).collect()
}

/// Makes the history of an event so long, as if it had been renamed again and again.
async fn lengthen(server: &TestServer, event_id: &str, versions: i64) {
    const RENAMED: &str = "
        INSERT INTO changes (event_id, version, kind, change_time, event)
        SELECT c.event_id, v.version, 'EVENT_UPDATED', c.change_time, c.event
          FROM events e
          JOIN changes c ON c.event_id = e.event_id AND c.version = 1
         CROSS JOIN LATERAL generate_series(e.version + 1, $2) AS v (version)
         WHERE e.event_id = $1";
    let mut sql = server.sql().await;
    sqlx::query(RENAMED).bind(event_id).bind(versions).execute(&mut sql).await.expect("it is longer");
    let version = sqlx::query("UPDATE events SET version = $2 WHERE event_id = $1").bind(event_id).bind(versions);
    version.execute(&mut sql).await.expect("it has as many versions");
}

/// Ann holds and confirms, Bob holds and cancels, the event is closed.
async fn a_history(server: &TestServer, event_id: &str) {
    server.event(event_id, 5).await;
    let request = pb::ReserveRequest { request_id: "take".into(), ..reserve(event_id, "ann") };
    server.reserve(request).await.expect("there is room");
    server.reserve(reserve(event_id, "bob")).await.expect("there is room");
    let event = || event_id.to_owned();
    let reservation = of_user("ann");
    let request = pb::ConfirmRequest { event_id: event(), reservation, request_id: "pay".into(), ..Default::default() };
    server.confirm(request).await.expect("it is held");
    let request = pb::CancelRequest { event_id: event(), reservation: of_user("bob"), ..Default::default() };
    server.cancel(request).await.expect("it is held");
    let request = pb::CloseEventRequest { event_id: event(), request_id: "close".into(), ..Default::default() };
    server.events().close_event(request).await.expect("it is open");
}

#[tokio::test]
async fn a_history_has_the_kind_time_and_request_of_each_change() {
    let server = TestServer::start().await;
    a_history(&server, "e").await;
    a_history(&server, "other").await;
    let changes = list(&server, of("e")).await;
    let told: Vec<_> = changes.iter().map(|it| (it.version, it.kind(), it.request_id.as_str())).collect();
    let expected = [
        (1, ChangeKind::EventCreated, ""),
        (2, ChangeKind::ReservationHeld, "take"),
        (3, ChangeKind::ReservationHeld, ""),
        (4, ChangeKind::ReservationConfirmed, "pay"),
        (5, ChangeKind::ReservationCancelled, ""),
        (6, ChangeKind::EventClosed, "close"),
    ];
    assert_eq!(told, expected);
    assert!(changes.iter().all(|change| change.event_id == "e" && change.change_time.is_some()));
    assert_eq!(changes[3].subject, Some(Subject::Reservation(server.reservation("e", "ann").await)));
    let Some(Subject::Event(closed)) = &changes[5].subject else { panic!("{:?}", changes[5]) };
    assert_eq!(closed, &server.get_event("e").await);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_history_is_filtered_by_reservation_user_kind_and_time() {
    let server = TestServer::start().await;
    a_history(&server, "e").await;
    let all = list(&server, of("e")).await;
    let anns = server.reservation("e", "ann").await.reservation_id;
    let kinds = vec![ChangeKind::ReservationHeld.into(), ChangeKind::EventClosed.into()];
    let at = |version: usize| all[version - 1].change_time;
    for (request, expected) in [
        (pb::ListChangesRequest { reservation_id: anns.clone(), ..of("e") }, vec![2, 4]),
        (pb::ListChangesRequest { user_id: "bob".into(), ..of("e") }, vec![3, 5]),
        (pb::ListChangesRequest { reservation_id: anns, user_id: "bob".into(), ..of("e") }, vec![]),
        (pb::ListChangesRequest { kinds: kinds.clone(), ..of("e") }, vec![2, 3, 6]),
        (pb::ListChangesRequest { kinds, newest_first: true, ..of("e") }, vec![6, 3, 2]),
        (pb::ListChangesRequest { change_time_from: at(3), change_time_before: at(5), ..of("e") }, vec![3, 4]),
    ] {
        assert_eq!(versions(&list(&server, request.clone()).await), expected, "{request:?}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn pages_of_a_history_follow_each_other_in_both_directions() {
    let server = TestServer::start().await;
    a_history(&server, "e").await;
    for (newest_first, expected) in [(false, [1, 2, 3, 4, 5, 6]), (true, [6, 5, 4, 3, 2, 1])] {
        let (mut seen, mut request) = (Vec::new(), pb::ListChangesRequest { newest_first, page_size: 4, ..of("e") });
        for _ in 0..2 {
            let page = server.feed().list_changes(request.clone()).await.expect("a page").into_inner();
            seen.extend(versions(&page.changes));
            request.page_token = page.next_page_token;
        }
        assert_eq!((seen.as_slice(), request.page_token.as_str()), (expected.as_slice(), ""));
    }
    let first = server.feed().list_changes(pb::ListChangesRequest { page_size: 4, ..of("e") }).await;
    let page_token = first.expect("a page").into_inner().next_page_token;
    let other = pb::ListChangesRequest { page_token, newest_first: true, ..of("e") };
    let refused = server.feed().list_changes(other).await;
    let status = assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    assert_eq!(bad_fields(&status), ["page_token"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_filter_reads_a_bounded_part_of_a_history_for_each_page() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    lengthen(&server, "e", 5_000).await;
    server.reserve(reserve("e", "bob")).await.expect("there is room");
    // What is found on each page: of Ann at the beginning of the history, of Bob at its end.
    for (user, newest_first, expected) in [
        ("ann", false, [vec![2], vec![], vec![]]),
        ("ann", true, [vec![], vec![], vec![2]]),
        ("bob", false, [vec![], vec![], vec![5_001]]),
        ("bob", true, [vec![5_001], vec![], vec![]]),
    ] {
        let mut request = pb::ListChangesRequest { user_id: user.into(), newest_first, ..of("e") };
        for (place, expected) in expected.into_iter().enumerate() {
            let page = server.feed().list_changes(request.clone()).await.expect("a page").into_inner();
            assert_eq!(versions(&page.changes), expected, "{user}, {newest_first}, page {place}");
            assert_eq!(page.next_page_token.is_empty(), place == 2, "{user}, {newest_first}, page {place}");
            request.page_token = page.next_page_token;
        }
    }
    // A full page ends before that.
    let kinds = vec![ChangeKind::EventUpdated.into()];
    let mut request = pb::ListChangesRequest { kinds, page_size: 1000, ..of("e") };
    let mut seen = Vec::new();
    while seen.is_empty() || !request.page_token.is_empty() {
        let page = server.feed().list_changes(request.clone()).await.expect("a page").into_inner();
        seen.extend(versions(&page.changes));
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, (3..=5_000).collect::<Vec<_>>());
    server.check_and_stop().await;
}
