//! DeleteEvent removes an event that was made by mistake, and nothing else.

use reservd::rpc::pb;
use tonic::Code;

use crate::support::{
    Call, STRATEGIES, TestServer, assert_refused, join, new_id, of_user, reserve, strict, watch_of, with,
};

fn delete(event_id: &str) -> pb::DeleteEventRequest {
    pb::DeleteEventRequest { event_id: event_id.into(), ..Default::default() }
}

fn create(event_id: &str, capacity: i32) -> pb::CreateEventRequest {
    let event = Some(pb::Event { event_id: event_id.into(), capacity, ..Default::default() });
    pb::CreateEventRequest { event, ..Default::default() }
}

#[tokio::test]
async fn a_deleted_event_is_found_by_no_read_but_its_history() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        let made = server.event(event_id, 3).await;
        let stale = pb::DeleteEventRequest { etag: "e9".into(), options, ..delete(event_id) };
        assert_refused(server.events().delete_event(stale).await, Code::Aborted, "ETAG_MISMATCH");
        let preview = pb::DeleteEventRequest { validate_only: true, options, ..delete(event_id) };
        server.events().delete_event(preview).await.expect("it may be deleted");
        server.get_event(event_id).await;

        let request = pb::DeleteEventRequest { etag: made.etag, options, request_id: new_id(), ..delete(event_id) };
        let answer = server.events().delete_event(request.clone()).await.expect("it was never used").into_inner();
        let gone = answer.event.expect("the event");
        assert_eq!((gone.state(), gone.version), (pb::EventState::Deleted, 2));
        let replay = server.events().delete_event(request).await.expect("it was done").into_inner();
        assert_eq!((replay.event, replay.execution.expect("a report").replayed), (Some(gone), true));

        let (own, id) = (of_user("ann"), event_id.to_owned());
        let confirm = pb::ConfirmRequest { event_id: id.clone(), reservation: own, options, ..Default::default() };
        let calls = [
            Call::from(pb::GetEventRequest { event_id: id.clone() }),
            pb::GetAvailabilityRequest { event_id: id.clone() }.into(),
            pb::VerifyEventRequest { event_id: id.clone() }.into(),
            pb::ListEventCountsRequest { event_id: id.clone(), ..Default::default() }.into(),
            pb::ReserveRequest { options, ..reserve(event_id, "ann") }.into(),
            pb::JoinWaitlistRequest { options, ..join(event_id, "ann", 1) }.into(),
            pb::OpenEventRequest { event_id: id.clone(), options, ..Default::default() }.into(),
            pb::DeleteEventRequest { options, ..delete(event_id) }.into(),
            confirm.into(),
        ];
        for call in calls {
            assert_refused(call.send(&server).await, Code::NotFound, "EVENT_NOT_FOUND");
        }
        let watched = server.feed().watch_changes(watch_of(event_id, None)).await;
        assert_refused(watched.map(drop), Code::NotFound, "EVENT_NOT_FOUND");
        let listed = server.events().list_events(pb::ListEventsRequest::default()).await.expect("a list").into_inner();
        assert!(listed.events.iter().all(|event| event.event_id != *event_id));
        let states = vec![pb::EventState::Deleted.into()];
        let request = pb::ListEventsRequest { states, ..Default::default() };
        let listed = server.events().list_events(request).await.expect("a list").into_inner();
        assert!(listed.events.iter().any(|event| event.event_id == *event_id));
        assert_eq!(server.history(event_id, None).await, ["EVENT_CREATED", "EVENT_DELETED"]);

        // Who watched it hears of its end.
        let mut watch =
            server.feed().watch_changes(watch_of(event_id, Some(1))).await.expect("it existed").into_inner();
        let told = watch.message().await.expect("a message").expect("the deletion");
        assert_eq!(told.changes.last().map(pb::Change::kind), Some(pb::ChangeKind::EventDeleted));
        assert_eq!(watch.message().await.expect("the end"), None);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_that_was_ever_used_is_not_deleted() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        server.event_with_waitlist(event_id, 1, strict()).await;
        server.reserve(reserve(event_id, "ann")).await.expect("there is room");
        let request = || pb::DeleteEventRequest { options, ..delete(event_id) };
        assert_refused(server.events().delete_event(request()).await, Code::FailedPrecondition, "EVENT_USED");
        let (event_id, reservation) = (event_id.to_owned(), of_user("ann"));
        let cancel = pb::CancelRequest { event_id, reservation, ..Default::default() };
        server.cancel(cancel).await.expect("it is hers");
        assert_refused(server.events().delete_event(request()).await, Code::FailedPrecondition, "EVENT_USED");
    }
    // What is no longer kept may have been a reservation.
    server.event("pruned", 1).await;
    let update = pb::CloseEventRequest { event_id: "pruned".into(), ..Default::default() };
    server.events().close_event(update).await.expect("it is open");
    let mut sql = server.sql().await;
    let prune = "CREATE TABLE pruned AS SELECT * FROM changes WHERE event_id = 'pruned' AND version = 1;
                 DELETE FROM changes WHERE event_id = 'pruned' AND version = 1";
    sqlx::raw_sql(prune).execute(&mut sql).await.expect("it is pruned");
    assert_refused(server.events().delete_event(delete("pruned")).await, Code::FailedPrecondition, "EVENT_USED");
    sqlx::raw_sql("INSERT INTO changes SELECT * FROM pruned").execute(&mut sql).await.expect("it is back");
    server.check_and_stop().await;
}

/// A server that still knows the event as it was before it was deleted must not take it for the new one.
#[tokio::test]
async fn a_new_event_of_a_deleted_id_continues_its_versions() {
    let server = TestServer::start().await;
    let other = server.twin().await;
    let created = other.event("show", 100).await;
    // It knows the event as version 1, with a capacity of 100.
    assert_refused(
        other
            .cancel(pb::CancelRequest { event_id: "show".into(), reservation: of_user("ann"), ..Default::default() })
            .await,
        Code::NotFound,
        "RESERVATION_NOT_FOUND",
    );
    server.events().delete_event(delete("show")).await.expect("it was never used");
    let again = server.events().create_event(create("show", 1)).await.expect("the id is free").into_inner();
    let again = again.event.expect("the event");
    assert_eq!((again.version, again.definition_version, again.capacity), (3, 3, 1));
    assert_ne!(again.etag, created.etag);
    let calls = (0..4).map(async |n: usize| {
        let options = with(pb::ExecutionStrategy::Coalesced);
        other.reserve(pb::ReserveRequest { options, ..reserve("show", &format!("user-{n}")) }).await
    });
    let answers = crate::support::all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(server.history("show", None).await, ["EVENT_CREATED", "EVENT_DELETED", "EVENT_CREATED", "HELD"]);

    // It exists again: a second creation is refused, and names it.
    let twice = server.events().create_event(create("show", 5)).await;
    assert_refused(twice, Code::AlreadyExists, "EVENT_EXISTS");
    other.check_and_stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_batch_creates_deleted_and_new_events_or_none() {
    let server = TestServer::start().await;
    for id in ["a", "b", "taken"] {
        server.event(id, 1).await;
    }
    for id in ["a", "b"] {
        server.events().delete_event(delete(id)).await.expect("it was never used");
    }
    let batch = |ids: &[&str]| pb::BatchCreateEventsRequest {
        requests: ids.iter().map(|id| create(id, 7)).collect(),
        ..Default::default()
    };
    let refused = server.events().batch_create_events(batch(&["a", "new", "taken"])).await;
    assert_refused(refused, Code::AlreadyExists, "EVENT_EXISTS");
    let gone = server.events().get_event(pb::GetEventRequest { event_id: "a".into() }).await;
    assert_refused(gone, Code::NotFound, "EVENT_NOT_FOUND");
    let created = server.events().batch_create_events(batch(&["b", "new", "a"])).await.expect("they are free");
    let versions: Vec<_> =
        created.into_inner().events.into_iter().map(|event| (event.event_id, event.version, event.capacity)).collect();
    assert_eq!(versions, [("b".into(), 3, 7), ("new".into(), 1, 7), ("a".into(), 3, 7)]);
    server.check_and_stop().await;
}
