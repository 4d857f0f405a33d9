//! A request_id stands for one effect and one answer: for any number of concurrent calls, on any server, before and
//! after a restart, and after any later change of the reservation.

use reservd::rpc::pb::{self, ExecutionStrategy};
use tonic::{Code, Status};

use crate::support::{
    Answer, MIXES, PATIENT, STRATEGIES, TestServer, all, assert_refused, by_turns, millis, of_user, patient_and,
    reserve, sorted, with,
};

/// The mutations of a reservation; those after the first start from a hold of five units.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rpc {
    Reserve,
    ReserveLess,
    ConfirmPart,
    CancelPart,
    CancelAll,
    Extend,
    Amend,
}

const RPCS: [Rpc; 6] = [Rpc::Reserve, Rpc::ConfirmPart, Rpc::CancelPart, Rpc::CancelAll, Rpc::Extend, Rpc::Amend];

/// Ann's call, under `request_id`.
async fn call(
    server: &TestServer,
    rpc: Rpc,
    event_id: &str,
    request_id: &str,
    options: Option<pb::ExecutionOptions>,
) -> Result<Answer, Status> {
    let (event_id, request_id, reservation) = (event_id.to_owned(), request_id.to_owned(), of_user("ann"));
    match rpc {
        Rpc::Reserve | Rpc::ReserveLess => {
            let quantity = if rpc == Rpc::Reserve { 5 } else { 4 };
            let request = pb::ReserveRequest { quantity, request_id, options, ..reserve(&event_id, "ann") };
            server.reserve(request).await
        }
        Rpc::ConfirmPart => {
            let quantity = 3;
            let request = pb::ConfirmRequest {
                event_id,
                reservation,
                quantity: Some(quantity),
                request_id,
                options,
                ..Default::default()
            };
            server.confirm(request).await
        }
        Rpc::CancelPart | Rpc::CancelAll => {
            let quantity = (rpc == Rpc::CancelPart).then_some(1);
            let request =
                pb::CancelRequest { event_id, reservation, quantity, request_id, options, ..Default::default() };
            server.cancel(request).await
        }
        Rpc::Extend => {
            let request = pb::ExtendRequest { event_id, reservation, request_id, options, ..Default::default() };
            server.extend(request).await
        }
        Rpc::Amend => {
            let quantity = 4;
            let request = pb::AmendRequest {
                event_id,
                reservation,
                quantity: Some(quantity),
                request_id,
                options,
                ..Default::default()
            };
            server.amend(request).await
        }
    }
}

/// An event prepared for the call, and its version.
async fn prepared(server: &TestServer, rpc: Rpc, event_id: &str) -> i64 {
    let version = server.event(event_id, 10).await.version;
    if rpc == Rpc::Reserve {
        return version;
    }
    call(server, Rpc::Reserve, event_id, "", None).await.expect("there is room").execution.event_version
}

/// One call had the effect, the others got its answer, and it was done once.
fn assert_done_once(answers: Vec<Result<Answer, Status>>, before: i64) {
    let (answers, refused) = sorted(answers);
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.execution.replayed).count(), 1);
    for answer in &answers {
        assert_eq!(answer.reservation, answers[0].reservation, "all get the same answer");
        assert_eq!(answer.execution.event_version, before + 1);
    }
}

#[tokio::test]
async fn sixteen_racers_with_one_request_id_have_one_effect() {
    let server = TestServer::with(&PATIENT).await;
    let twin = server.twin_with(&PATIENT).await;
    for (name, mix) in MIXES {
        for rpc in RPCS {
            let event_id = format!("{name}-{rpc:?}");
            let before = prepared(&server, rpc, &event_id).await;
            // In pairs, so that each server sees every strategy.
            let racers = (0..16).map(|n| {
                let at = if n / 2 % 2 == 0 { &server } else { &twin };
                call(at, rpc, &event_id, "once", by_turns(mix, n))
            });
            assert_done_once(server.race(&event_id, 16, racers).await, before);
            let event = server.get_event(&event_id).await;
            assert_eq!(event.version, before + 1, "one change");
            let units = if rpc == Rpc::Reserve { 5 } else { 10 - event.counts.unwrap_or_default().available };
            assert_eq!(event.counts.unwrap_or_default().held + event.counts.unwrap_or_default().confirmed, units);
        }
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_partial_cancel_that_is_repeated_gives_up_its_units_once() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        prepared(&server, Rpc::CancelPart, event_id).await;
        for replayed in [false, true, true] {
            let answer = call(&server, Rpc::CancelPart, event_id, "one-less", with(strategy)).await;
            let answer = answer.expect("it is done, or was");
            assert_eq!((answer.reservation.quantity, answer.execution.replayed), (4, replayed));
        }
        let again = call(&server, Rpc::CancelPart, event_id, "another", with(strategy)).await.expect("units are left");
        assert_eq!(again.reservation.quantity, 3);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_repetition_while_the_first_commits_waits_for_its_answer() {
    let server = TestServer::with(&PATIENT).await;
    let twin = server.twin_with(&PATIENT).await;
    for (name, mix) in MIXES {
        for rpc in RPCS {
            let event_id = format!("{name}-{rpc:?}");
            let before = prepared(&server, rpc, &event_id).await;
            let commits = server.hold_commits().await;
            let first = call(&server, rpc, &event_id, "once", by_turns(mix, 0));
            let second = async {
                server.waiting(1).await;
                call(&twin, rpc, &event_id, "once", by_turns(mix, 1)).await
            };
            let release = async {
                server.waiting(2).await;
                commits.release().await;
            };
            let (first, second, ()) = tokio::join!(first, second, release);
            assert!(!first.as_ref().expect("it was first").execution.replayed);
            assert_done_once(vec![first, second], before);
        }
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

/// The booking time of the first call is over by now; the repetition must still get its answer.
#[tokio::test]
async fn a_repetition_after_booking_closed_waits_for_the_first_that_came_in_time() {
    let server = TestServer::with(&PATIENT).await;
    server.event("clock", 1).await;
    let clock = server.reserve(reserve("clock", "ann")).await.expect("there is room").reservation.create_time;
    let closes = clock.map(|now| prost_types::Timestamp { seconds: now.seconds + 3, ..now });
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server
            .event_with(pb::Event {
                event_id: event_id.into(),
                capacity: 10,
                booking_close_time: closes,
                ..Default::default()
            })
            .await;
    }
    let commits = server.hold_commits().await;
    let firsts = STRATEGIES.map(|strategy| call(&server, Rpc::Reserve, strategy.as_str_name(), "r", with(strategy)));
    let seconds = async {
        server.waiting(3).await;
        server.until(closes, 0).await;
        let again = STRATEGIES.map(|strategy| call(&server, Rpc::Reserve, strategy.as_str_name(), "r", with(strategy)));
        let release = async {
            server.waiting(6).await;
            commits.release().await;
        };
        tokio::join!(all(again), release).0
    };
    let (firsts, seconds) = tokio::join!(all(firsts), seconds);
    for (first, second) in firsts.into_iter().zip(seconds) {
        assert_done_once(vec![first, second], 1);
    }
    let late = call(&server, Rpc::Reserve, STRATEGIES[1].as_str_name(), "late", with(STRATEGIES[1])).await;
    assert_refused(late, Code::FailedPrecondition, "EVENT_NOT_OPEN");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_request_id_with_another_payload_is_refused_even_while_the_first_commits() {
    let server = TestServer::with(&PATIENT).await;
    for (name, mix) in MIXES {
        for (n, rpc) in RPCS.into_iter().enumerate() {
            let event_id = format!("{name}-{rpc:?}");
            prepared(&server, rpc, &event_id).await;
            // Another call of Ann's, such as an extension instead of a cancellation.
            let other = if rpc == Rpc::Reserve { Rpc::ReserveLess } else { RPCS[n % (RPCS.len() - 1) + 1] };
            let commits = server.hold_commits().await;
            let first = call(&server, rpc, &event_id, "taken", by_turns(mix, 0));
            let second = async {
                server.waiting(1).await;
                call(&server, other, &event_id, "taken", by_turns(mix, 1)).await
            };
            let release = async {
                server.waiting(2).await;
                commits.release().await;
            };
            let (first, second, ()) = tokio::join!(first, second, release);
            let version = first.expect("it was first").execution.event_version;
            assert_refused(second, Code::FailedPrecondition, "REQUEST_ID_REUSED");
            let later = call(&server, other, &event_id, "taken", by_turns(mix, 0)).await;
            assert_refused(later, Code::FailedPrecondition, "REQUEST_ID_REUSED");
            assert_eq!(server.get_event(&event_id).await.version, version);
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_repetition_is_answered_after_a_restart_and_by_the_other_strategy() {
    let server = TestServer::start().await;
    let mut firsts = Vec::new();
    for rpc in RPCS {
        prepared(&server, rpc, &format!("{rpc:?}")).await;
        firsts.push(
            call(&server, rpc, &format!("{rpc:?}"), "once", with(ExecutionStrategy::Pessimistic)).await.expect("done"),
        );
    }
    server.app.stop().await;
    let server = TestServer::on(server.database, &[]).await;
    for (rpc, first) in RPCS.into_iter().zip(firsts) {
        let again =
            call(&server, rpc, &format!("{rpc:?}"), "once", with(ExecutionStrategy::Optimistic)).await.expect("done");
        assert_eq!(again.reservation, first.reservation);
        assert_eq!(again.execution.event_version, first.execution.event_version);
        assert!(again.execution.replayed);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_refusal_is_not_stored_under_its_request_id() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 1).await;
        server.reserve(reserve(event_id, "ann")).await.expect("there is room");
        let request =
            pb::ReserveRequest { request_id: "r".into(), options: with(strategy), ..reserve(event_id, "bob") };
        assert_refused(server.reserve(request.clone()).await, Code::FailedPrecondition, "SOLD_OUT");
        call(&server, Rpc::CancelAll, event_id, "", None).await.expect("ann gives hers up");
        let answer = server.reserve(request).await.expect("now there is room");
        assert!(!answer.execution.replayed);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn validate_only_does_not_use_up_the_request_id() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 1).await;
        let request =
            pb::ReserveRequest { request_id: "r".into(), options: with(strategy), ..reserve(event_id, "ann") };
        server.reserve(pb::ReserveRequest { validate_only: true, ..request.clone() }).await.expect("there is room");
        assert_eq!(server.get_event(event_id).await.version, 1, "nothing was done");
        assert!(!server.reserve(request).await.expect("there still is").execution.replayed);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_repetition_returns_the_first_result_after_any_later_change() {
    let server = TestServer::with(&patient_and(&[("expiry.interval", "1h")])).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 5).await;
        let request = pb::ReserveRequest {
            quantity: 5,
            hold_ttl: millis(100),
            request_id: "first".into(),
            options: with(strategy),
            ..reserve(event_id, "ann")
        };
        let first = server.reserve(request.clone()).await.expect("there is room");
        let again = async || {
            let again = server.reserve(request.clone()).await.expect("a repetition is answered");
            assert_eq!(again.reservation, first.reservation);
            assert_eq!(again.execution.event_version, first.execution.event_version);
            assert!(again.execution.replayed);
        };
        server.until(first.reservation.expire_time, 0).await;
        again().await;
        let other = pb::ReserveRequest { quantity: 5, confirm: true, ..reserve(event_id, "bob") };
        server.reserve(other).await.expect("ann's hold has lapsed");
        again().await;
        let cancel = pb::CancelEventRequest { event_id: event_id.into(), ..Default::default() };
        server.events().cancel_event(cancel).await.expect("it is open");
        again().await;
        assert_eq!(server.history(event_id, Some("ann")).await, ["HELD", "EXPIRED"]);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_abandoned_call_is_executed_and_its_repetition_returns_the_result() {
    let server = TestServer::with(&PATIENT).await;
    for strategy in STRATEGIES {
        for rpc in RPCS {
            let event_id = format!("{}-{rpc:?}", strategy.as_str_name());
            let before = prepared(&server, rpc, &event_id).await;
            let row = server.hold_row(&event_id).await;
            tokio::select! {
                answer = call(&server, rpc, &event_id, "once", with(strategy)) => panic!("{answer:?}"),
                // Now the caller hangs up.
                () = server.waiting(1) => {}
            }
            row.release().await;
            let again = call(&server, rpc, &event_id, "once", with(strategy)).await.expect("it is carried out");
            assert_eq!(again.execution.event_version, before + 1);
            assert_eq!(server.get_event(&event_id).await.version, before + 1, "once, by whichever came first");
        }
    }
    server.check_and_stop().await;
}
