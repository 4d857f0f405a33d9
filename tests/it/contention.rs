//! The answers under contention: LOCK_TIMEOUT, ETAG_MISMATCH and VERSION_CONTENTION; and a refusal is final at the
//! first attempt.

use reservd::rpc::pb::{self, ExecutionStrategy, LockWait};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    CONNECTIONS, PATIENT, STRATEGIES, TestServer, assert_refused, by_id, metadata, of_user, reserve, soon, sorted, with,
};

fn nowait(strategy: ExecutionStrategy) -> Option<pb::ExecutionOptions> {
    Some(pb::ExecutionOptions { strategy: strategy.into(), lock_wait: LockWait::Nowait.into() })
}

#[tokio::test]
async fn nowait_fails_at_once_while_the_row_is_locked() {
    // The deadline is long: no call here ends by its deadline.
    let server = TestServer::with(&PATIENT).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 5).await;
        server.reserve(reserve(event_id, "ann")).await.expect("there is room");
        let (options, reservation) = (nowait(strategy), of_user("ann"));
        let row = server.hold_row(event_id).await;

        let new = pb::ReserveRequest { options, ..reserve(event_id, "bob") };
        let answer = soon("Reserve answers", server.reserve(new.clone())).await;
        let status = assert_refused(answer, Code::Aborted, "LOCK_TIMEOUT");
        assert!(status.get_details_retry_info().is_some(), "it tells when to try again");
        let event_id = event_id.to_owned();
        let request = pb::ConfirmRequest {
            event_id: event_id.clone(),
            reservation: reservation.clone(),
            options,
            ..Default::default()
        };
        assert_refused(soon("Confirm answers", server.confirm(request)).await, Code::Aborted, "LOCK_TIMEOUT");
        let request = pb::CancelRequest {
            event_id: event_id.clone(),
            reservation: reservation.clone(),
            options,
            ..Default::default()
        };
        assert_refused(soon("Cancel answers", server.cancel(request)).await, Code::Aborted, "LOCK_TIMEOUT");
        let request = pb::ExtendRequest {
            event_id: event_id.clone(),
            reservation: reservation.clone(),
            options,
            ..Default::default()
        };
        assert_refused(soon("Extend answers", server.extend(request)).await, Code::Aborted, "LOCK_TIMEOUT");
        let request = pb::AmendRequest { event_id, reservation, quantity: Some(2), options, ..Default::default() };
        assert_refused(soon("Amend answers", server.amend(request)).await, Code::Aborted, "LOCK_TIMEOUT");

        row.release().await;
        server.reserve(new).await.expect("now it is free");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_lock_wait_ends_at_its_limit() {
    let server = TestServer::with(&[("execution.max_lock_wait", "50ms")]).await;
    server.event("show", 5).await;
    let row = server.hold_row("show").await;
    for strategy in STRATEGIES {
        let request = pb::ReserveRequest { options: with(strategy), ..reserve("show", "ann") };
        assert_refused(server.reserve(request).await, Code::Aborted, "LOCK_TIMEOUT");
    }
    row.release().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn pessimistic_callers_queue_and_none_tries_twice() {
    let server = TestServer::with(&PATIENT).await;
    server.event("show", 5).await;
    let calls = (0..CONNECTIONS).map(|n| {
        let request = reserve("show", &format!("user-{n}"));
        server.reserve(pb::ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..request })
    });
    let (made, refused) = sorted(server.race("show", CONNECTIONS, calls).await);
    assert_eq!((made.len(), refused.len()), (5, CONNECTIONS - 5));
    for answer in made {
        assert_eq!(answer.execution.attempt_count, 1, "waiting is no retry");
        assert!(answer.execution.lock_wait_duration.expect("it is in the answer").nanos > 0);
    }
    assert_eq!(retries(&server, "reserve", ExecutionStrategy::Pessimistic).await, 0.0);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_stale_etag_is_refused_at_the_first_attempt() {
    let server = TestServer::with(&PATIENT).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name().to_owned();
        let stale = server.event(&event_id, 5).await.version;
        let ann = server.reserve(reserve(&event_id, "ann")).await.expect("there is room").reservation;
        let current = server.get_event(&event_id).await.version;

        let options = with(strategy);
        let request = pb::ReserveRequest { expected_event_version: Some(stale), options, ..reserve(&event_id, "bob") };
        let status = assert_refused(server.reserve(request.clone()).await, Code::Aborted, "EVENT_VERSION_MISMATCH");
        assert_eq!(metadata(&status)["event_version"], current.to_string());
        assert!(status.get_details_retry_info().is_none(), "trying the same again can't help");

        let extend = pb::ExtendRequest {
            event_id: event_id.clone(),
            reservation: by_id(&ann.reservation_id),
            etag: ann.etag.clone(),
            options,
            ..Default::default()
        };
        let newer = server.extend(extend.clone()).await.expect("the etag is right").reservation;
        let status = assert_refused(server.extend(extend).await, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&status)["current_etag"], newer.etag);

        if strategy == ExecutionStrategy::Optimistic {
            // A stale etag stays stale, so the refusal waits for no lock.
            let row = server.hold_row(&event_id).await;
            let answer = soon("it answers at once", server.reserve(request)).await;
            assert_refused(answer, Code::Aborted, "EVENT_VERSION_MISMATCH");
            row.release().await;
        }
        for operation in ["reserve", "extend"] {
            assert_eq!(retries(&server, operation, strategy).await, 0.0);
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_version_that_changes_under_every_attempt_is_contention() {
    let server = TestServer::with(&[("execution.max_attempts", "1")]).await;
    server.event("show", 5).await;
    let (first, second) = one_overtakes_another(&server, None).await;
    assert_eq!(first.expect("it was first").execution.attempt_count, 1);
    let status = assert_refused(second, Code::Aborted, "VERSION_CONTENTION");
    assert_eq!(metadata(&status)["attempts"], "1");
    assert!(status.get_details_retry_info().is_some(), "it tells when to try again");
    assert_eq!(server.metric("reservd_version_conflicts_total{operation=\"reserve\"}").await, 1.0);
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_overtaken_attempt_is_repeated() {
    let server = TestServer::start().await;
    server.event("show", 5).await;
    let (first, second) = one_overtakes_another(&server, None).await;
    assert_eq!(first.expect("it was first").execution.attempt_count, 1);
    assert_eq!(second.expect("there is room for both").execution.attempt_count, 2);
    assert_eq!(retries(&server, "reserve", ExecutionStrategy::Optimistic).await, 1.0);
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_overtaken_attempt_with_an_etag_gets_etag_mismatch() {
    let server = TestServer::start().await;
    let version = server.event("show", 5).await.version;
    let (first, second) = one_overtakes_another(&server, Some(version)).await;
    first.expect("it was first");
    assert_refused(second, Code::Aborted, "EVENT_VERSION_MISMATCH");
    server.check_and_stop().await;
}

type Reserved = Result<crate::support::Answer, tonic::Status>;

/// A Reserve commits after another, OPTIMISTIC one was decided on the version before.
async fn one_overtakes_another(server: &TestServer, expected_event_version: Option<i64>) -> (Reserved, Reserved) {
    let commits = server.hold_commits().await;
    let first = server.reserve(pb::ReserveRequest { expected_event_version, ..reserve("show", "ann") });
    let second = async {
        server.waiting(1).await;
        let options = with(ExecutionStrategy::Optimistic);
        server.reserve(pb::ReserveRequest { expected_event_version, options, ..reserve("show", "bob") }).await
    };
    let release = async {
        server.waiting(2).await;
        commits.release().await;
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    (first, second)
}

#[tokio::test]
async fn a_refusal_is_final_at_the_first_attempt() {
    let server = TestServer::start().await;
    server.event("full", 1).await;
    server.reserve(reserve("full", "ann")).await.expect("there is room");
    for strategy in STRATEGIES {
        let options = with(strategy);
        for (user, code, why) in
            [("bob", Code::FailedPrecondition, "SOLD_OUT"), ("ann", Code::AlreadyExists, "ALREADY_RESERVED")]
        {
            let request = pb::ReserveRequest { options, ..reserve("full", user) };
            assert_refused(server.reserve(request).await, code, why);
        }
        let request = pb::ReserveRequest { options, ..reserve("nowhere", "bob") };
        assert_refused(server.reserve(request).await, Code::NotFound, "EVENT_NOT_FOUND");
        assert_eq!(retries(&server, "reserve", strategy).await, 0.0);
        for why in ["SOLD_OUT", "ALREADY_RESERVED", "EVENT_NOT_FOUND"] {
            let labels = format!("operation=\"reserve\",outcome=\"{why}\",strategy=\"{}\"", short(strategy));
            assert_eq!(server.metric(&format!("reservd_outcomes_total{{{labels}}}")).await, 1.0, "counted once");
        }
    }
    server.check_and_stop().await;
}

async fn retries(server: &TestServer, operation: &str, strategy: ExecutionStrategy) -> f64 {
    let labels = format!("operation=\"{operation}\",strategy=\"{}\"", short(strategy));
    server.metric(&format!("reservd_retries_total{{{labels}}}")).await
}

fn short(strategy: ExecutionStrategy) -> &'static str {
    strategy.as_str_name().trim_start_matches("EXECUTION_STRATEGY_")
}
