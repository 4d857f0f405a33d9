//! A step is a command and the promotions that it causes, in one commit: what a call tells is how things stand after
//! the whole of it.

use reservd::rpc::pb;

use crate::support::{Answer, STRATEGIES, TestServer, all, join, new_id, of_user, reserve, strict, with};

/// An event of this capacity, all of it ann's, for which `bob` and `cid` wait.
async fn waited_for(server: &TestServer, event_id: &str, capacity: i32) {
    server.event_with_waitlist(event_id, capacity, strict()).await;
    let ann = pb::ReserveRequest { quantity: capacity, ..reserve(event_id, "ann") };
    server.reserve(ann).await.expect("there is room");
    for user in ["bob", "cid"] {
        server.join(join(event_id, user, 1)).await.expect("it is sold out");
    }
}

#[tokio::test]
async fn the_answer_to_an_update_is_the_event_after_the_promotions_that_it_causes() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        waited_for(&server, event_id, 1).await;
        let event = Some(pb::Event { event_id: event_id.into(), capacity: 2, ..Default::default() });
        let request = pb::UpdateEventRequest { event, options, request_id: new_id(), ..Default::default() };
        let answer = server.events().update_event(request.clone()).await.expect("it is larger").into_inner();
        let (told, report) = (answer.event.expect("the event"), answer.execution.expect("a report"));
        let mut seen = server.get_event(event_id).await;
        // Lapsed holds are looked at by reads only.
        seen.counts.as_mut().expect("counts").lapsed = None;
        assert_eq!(told, seen, "{strategy:?}");
        assert_eq!((told.counts.expect("counts").waiting, report.event_version), (1, told.version));

        // Its etag is the one for the next call, which promotes, too: of an event that opens.
        let close = pb::CloseEventRequest { event_id: event_id.into(), etag: told.etag.clone(), ..Default::default() };
        server.events().close_event(close).await.expect("nobody else has changed it");
        let two = pb::CancelRequest { event_id: event_id.into(), reservation: of_user("ann"), ..Default::default() };
        server.cancel(two).await.expect("it is hers");
        let open = pb::OpenEventRequest { event_id: event_id.into(), options, ..Default::default() };
        let opened = server.events().open_event(open).await.expect("it is closed").into_inner().event;
        let mut seen = server.get_event(event_id).await;
        seen.counts.as_mut().expect("counts").lapsed = None;
        assert_eq!(opened, Some(seen), "{strategy:?}");

        // The repetition tells what was told, after all that has happened since.
        let replay = server.events().update_event(request).await.expect("it was done").into_inner();
        assert_eq!(replay.event, Some(told));
        assert_eq!(replay.execution.expect("a report").event_version, report.event_version);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_event_version_told_is_the_last_of_the_step() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let options = with(strategy);
        let id = |rpc: &str| format!("{rpc}-{}", strategy.as_str_name());
        let check = async |answer: Answer, event_id: &str| {
            assert_eq!(server.promoted(event_id).await, ["bob"], "{event_id}");
            let seen = server.get_event(event_id).await;
            assert_eq!(answer.execution.event_version, seen.version, "{event_id}");
            assert_eq!(answer.reservation.version, seen.version - 1, "the change before the promotion is its own");
        };
        let (reservation, request_id) = (of_user("ann"), new_id());

        let event_id = id("cancel");
        waited_for(&server, &event_id, 2).await;
        let (of_event, some, own) = (event_id.clone(), Some(1), reservation.clone());
        let cancel = pb::CancelRequest {
            event_id: of_event,
            reservation: own,
            quantity: some,
            request_id: request_id.clone(),
            options,
            ..Default::default()
        };
        check(server.cancel(cancel.clone()).await.expect("she has two"), &event_id).await;
        let replay = server.cancel(cancel).await.expect("it was done");
        assert!(replay.execution.replayed);
        check(replay, &event_id).await;

        let event_id = id("confirm");
        waited_for(&server, &event_id, 2).await;
        let (of_event, own) = (event_id.clone(), reservation.clone());
        let confirm =
            pb::ConfirmRequest { event_id: of_event, reservation: own, quantity: some, options, ..Default::default() };
        check(server.confirm(confirm).await.expect("it is held"), &event_id).await;

        let event_id = id("amend");
        waited_for(&server, &event_id, 2).await;
        let (of_event, own) = (event_id.clone(), reservation.clone());
        let amend =
            pb::AmendRequest { event_id: of_event, reservation: own, quantity: some, options, ..Default::default() };
        check(server.amend(amend).await.expect("it is less"), &event_id).await;
    }
    server.check_and_stop().await;
}

/// In a batch, each command is told its own step, not the batch's.
#[tokio::test]
async fn in_a_batch_each_command_is_told_its_own_step() {
    let server = TestServer::start().await;
    server.event_with_waitlist("show", 12, strict()).await;
    for n in 0..12 {
        server.reserve(reserve("show", &format!("user-{n}"))).await.expect("there is room");
    }
    for n in 0..12 {
        server.join(join("show", &format!("next-{n}"), 1)).await.expect("it is sold out");
    }
    let commits = server.hold_commits().await;
    let calls = (0..12).map(async |n: usize| {
        let (event_id, reservation) = ("show".to_owned(), of_user(&format!("user-{n}")));
        let options = with(pb::ExecutionStrategy::Coalesced);
        let request = pb::CancelRequest { event_id, reservation, options, ..Default::default() };
        server.cancel(request).await.expect("it is held")
    });
    let (answers, ()) = tokio::join!(all(calls), async {
        server.waiting(1).await;
        commits.release().await;
    });
    let mut versions: Vec<_> = answers.iter().map(|one| one.execution.event_version).collect();
    assert!(answers.iter().any(|one| one.execution.batch_size > 1), "some of them share a commit");
    for one in &answers {
        assert_eq!(one.execution.event_version, one.reservation.version + 1);
    }
    versions.sort_unstable();
    assert_eq!(versions, (0..12).map(|n| 26 + 2 * n + 1).collect::<Vec<_>>());
    server.check_and_stop().await;
}
