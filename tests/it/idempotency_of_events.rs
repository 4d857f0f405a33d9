//! A request_id of an event's own mutations stands for one effect and one answer, too.

use reservd::rpc::pb;
use tonic::{Code, Status};

use crate::support::{CONNECTIONS, PATIENT, TestServer, all, assert_refused, reserve, sorted};

/// The answer to a mutation of an event.
type Told = Result<(pb::Event, bool), Status>;

fn event(event_id: &str, capacity: i32) -> Option<pb::Event> {
    Some(pb::Event { event_id: event_id.into(), capacity, ..Default::default() })
}

async fn create(server: &TestServer, event_id: &str, capacity: i32, request_id: &str) -> Told {
    let event = event(event_id, capacity);
    let request = pb::CreateEventRequest { event, request_id: request_id.into(), ..Default::default() };
    let answer = server.events().create_event(request).await?.into_inner();
    Ok((answer.event.expect("the event"), answer.execution.unwrap_or_default().replayed))
}

async fn create_batch(server: &TestServer, ids: &[&str]) -> Result<pb::BatchCreateEventsResponse, Status> {
    let request = |id: &&str| pb::CreateEventRequest {
        event: event(id, 3),
        request_id: format!("create-{id}"),
        ..Default::default()
    };
    let requests = ids.iter().map(request).collect();
    Ok(server
        .events()
        .batch_create_events(pb::BatchCreateEventsRequest { requests, ..Default::default() })
        .await?
        .into_inner())
}

/// The mutations of an existing event.
#[derive(Clone, Copy, Debug)]
enum Rpc {
    Update,
    Close,
    Open,
    Cancel,
}

const RPCS: [Rpc; 4] = [Rpc::Update, Rpc::Close, Rpc::Open, Rpc::Cancel];

async fn call(server: &TestServer, rpc: Rpc, event_id: &str, request_id: &str) -> Told {
    let (mut events, event_id, request_id) = (server.events(), event_id.to_owned(), request_id.to_owned());
    let (event, replayed) = match rpc {
        Rpc::Update => {
            let event = event(&event_id, 7);
            let request = pb::UpdateEventRequest { event, request_id, ..Default::default() };
            let answer = events.update_event(request).await?.into_inner();
            (answer.event, answer.execution.unwrap_or_default().replayed)
        }
        Rpc::Close => {
            let request = pb::CloseEventRequest { event_id, request_id, ..Default::default() };
            let answer = events.close_event(request).await?.into_inner();
            (answer.event, answer.execution.unwrap_or_default().replayed)
        }
        Rpc::Open => {
            let request = pb::OpenEventRequest { event_id, request_id, ..Default::default() };
            let answer = events.open_event(request).await?.into_inner();
            (answer.event, answer.execution.unwrap_or_default().replayed)
        }
        Rpc::Cancel => {
            let request = pb::CancelEventRequest { event_id, request_id, ..Default::default() };
            let answer = events.cancel_event(request).await?.into_inner();
            assert_eq!(answer.cancelled_reservation_count, 2, "answered again with the rest");
            (answer.event, answer.execution.unwrap_or_default().replayed)
        }
    };
    Ok((event.expect("the event"), replayed))
}

/// An event with two reservations, prepared for the call, and its version.
async fn prepared(server: &TestServer, rpc: Rpc, event_id: &str) -> i64 {
    server.event(event_id, 5).await;
    for user in ["ann", "bob"] {
        server.reserve(reserve(event_id, user)).await.expect("there is room");
    }
    if matches!(rpc, Rpc::Open) {
        call(server, Rpc::Close, event_id, "").await.expect("it is open");
    }
    server.get_event(event_id).await.version
}

/// One call had the effect, and the others got its answer.
fn assert_done_once(answers: Vec<Told>) -> pb::Event {
    let (answers, refused) = sorted(answers);
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert!(answers.iter().all(|(event, _)| *event == answers[0].0), "all get the same answer: {answers:?}");
    answers[0].0.clone()
}

/// Stalls the commit of the first call until the others have arrived.
async fn race_to_commit<T>(
    server: &TestServer,
    waiting: usize,
    calls: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let commits = server.hold_commits().await;
    let release = async {
        server.waiting(waiting).await;
        commits.release().await;
    };
    tokio::join!(all(calls), release).0
}

#[tokio::test]
async fn sixteen_racers_create_an_event_once() {
    let server = TestServer::with(&PATIENT).await;
    let twin = server.twin_with(&PATIENT).await;
    // With an id of the client, and with one of the server, which follows from the request_id.
    for event_id in ["show", ""] {
        let request_id = format!("create-{event_id}");
        let racers = (0..16).map(|n| create(if n % 2 == 0 { &server } else { &twin }, event_id, 5, &request_id));
        let created = assert_done_once(race_to_commit(&server, 16, racers).await);
        assert_eq!(created.version, 1);
        let other = create(&server, event_id, 6, &request_id).await;
        assert_refused(other, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        assert_eq!(server.get_event(&created.event_id).await, created);
    }
    let racers = (0..16).map(|_| create(&server, "anonymous", 5, ""));
    let (created, refused) = sorted(race_to_commit(&server, CONNECTIONS, racers).await);
    assert_eq!((created.len(), refused.len()), (1, 15));
    for status in refused {
        assert_refused::<()>(Err(status), Code::AlreadyExists, "EVENT_EXISTS");
    }
    let anonymous = all((0..2).map(|_| create(&server, "", 5, ""))).await;
    let ids: Vec<_> = anonymous.into_iter().map(|answer| answer.expect("created").0.event_id).collect();
    assert_ne!(ids[0], ids[1], "without a request_id each is an event of its own");
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn batches_that_share_events_create_each_once() {
    let server = TestServer::with(&PATIENT).await;
    let batches: [&[&str]; 4] = [&["a", "b", "c"], &["c", "b", "a"], &["b", "d"], &["a", "b", "c"]];
    let answers = race_to_commit(&server, 4, batches.map(|ids| create_batch(&server, ids))).await;
    let mut replayed = 0;
    for (ids, answer) in batches.into_iter().zip(answers) {
        let answer = answer.expect("created, now or before");
        assert_eq!(answer.events.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ids, "in order");
        replayed += answer.replayed_count;
    }
    assert_eq!(replayed, 7, "eleven were asked for, four are there");

    // All or none: another caller's event among them prevents all from being created.
    create(&server, "mine", 3, "").await.expect("it is new");
    assert_refused(create_batch(&server, &["e", "mine"]).await, Code::AlreadyExists, "EVENT_EXISTS");
    let missing = server.events().get_event(pb::GetEventRequest { event_id: "e".into() }).await;
    assert_refused(missing, Code::NotFound, "EVENT_NOT_FOUND");
    server.check_and_stop().await;
}

#[tokio::test]
async fn sixteen_racers_change_an_event_once() {
    let server = TestServer::with(&PATIENT).await;
    let twin = server.twin_with(&PATIENT).await;
    for rpc in RPCS {
        let event_id = format!("{rpc:?}");
        let before = prepared(&server, rpc, &event_id).await;
        let racers = (0..16).map(|n| call(if n % 2 == 0 { &server } else { &twin }, rpc, &event_id, "once"));
        let changed = assert_done_once(server.race(&event_id, 16, racers).await);
        let ended = if matches!(rpc, Rpc::Cancel) { 2 } else { 0 };
        assert_eq!(changed.version, before + ended + 1);
        assert_eq!(server.get_event(&event_id).await, changed);
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_events_first_answer_is_returned_after_later_changes_and_a_restart() {
    let server = TestServer::start().await;
    let mut firsts = Vec::new();
    for rpc in RPCS {
        let event_id = format!("{rpc:?}");
        prepared(&server, rpc, &event_id).await;
        let (first, replayed) = call(&server, rpc, &event_id, "once").await.expect("it can be done");
        assert!(!replayed);
        let request = pb::UpdateEventRequest { event: event(&event_id, 9), ..Default::default() };
        let later = server.events().update_event(request).await;
        assert_eq!(later.is_err(), matches!(rpc, Rpc::Cancel), "a cancelled event stays as it is");
        firsts.push(first);
    }
    server.app.stop().await;
    let server = TestServer::on(server.database, &[]).await;
    for (rpc, first) in RPCS.into_iter().zip(firsts) {
        let event_id = format!("{rpc:?}");
        assert_eq!(call(&server, rpc, &event_id, "once").await.expect("it was done"), (first, true));
    }
    for (n, rpc) in RPCS.into_iter().enumerate() {
        let other = call(&server, RPCS[(n + 1) % RPCS.len()], &format!("{rpc:?}"), "once").await;
        assert_refused(other, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_and_its_reservations_share_request_ids() {
    let server = TestServer::start().await;
    create(&server, "show", 5, "r").await.expect("it is new");
    let request = pb::ReserveRequest { request_id: "r".into(), ..reserve("show", "ann") };
    assert_refused(server.reserve(request.clone()).await, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    server.event("other", 5).await;
    let request = pb::ReserveRequest { event_id: "other".into(), ..request };
    assert!(!server.reserve(request).await.expect("another event, another request").execution.replayed);
    server.check_and_stop().await;
}
