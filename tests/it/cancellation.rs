//! Callers that hang up, and calls whose deadline passes: nothing stays behind, no connection is poisoned, and a
//! repetition with the same request_id tells the outcome.

use std::time::Duration;

use reservd::rpc::pb::{self, ExecutionStrategy};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{
    CONNECTIONS, PATIENT, RawCall, RawClient, STRATEGIES, TestServer, all, assert_refused, by_turns, eventually,
    of_user, patient_and, reason, reserve, soon, sorted, with,
};

/// Expiry is off, so that no other work of the service runs when a test looks for leftovers.
const QUIET: (&str, &str) = ("expiry.interval", "1h");

/// Waits until no connection of the service is in a transaction, runs a statement or has a lock.
async fn all_clear(server: &TestServer) {
    const BUSY: &str = "
        SELECT count(*) FROM pg_stat_activity a
         WHERE a.datname = current_database() AND a.application_name = 'reservd'
           AND (a.state <> 'idle' OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid))";
    let mut sql = server.sql().await;
    eventually("no transaction and no lock is left", async || {
        let busy: i64 = sqlx::query_scalar(BUSY).fetch_one(&mut sql).await.expect("activity is shown");
        busy == 0
    })
    .await;
}

/// Not only the caller got DEADLINE_EXCEEDED: the work of the one Reserve ended for the same reason.
async fn ended_by_deadline(server: &TestServer, strategy: ExecutionStrategy) {
    let strategy = strategy.as_str_name().trim_start_matches("EXECUTION_STRATEGY_");
    let labels = format!("operation=\"reserve\",outcome=\"DEADLINE\",strategy=\"{strategy}\"");
    let outcomes = format!("reservd_outcomes_total{{{labels}}}");
    eventually(&outcomes, async || server.metric(&outcomes).await == 1.0).await;
}

#[tokio::test]
async fn a_call_whose_grpc_timeout_passes_in_the_queue_leaves_nothing_behind() {
    let server = TestServer::with(&patient_and(&[QUIET])).await;
    let raw = RawClient::connect(&server).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 5).await;
        let row = server.hold_row(event_id).await;
        let request =
            pb::ReserveRequest { request_id: "r".into(), options: with(strategy), ..reserve(event_id, "ann") };
        for grpc_timeout in ["150m", "150000u", "1S"] {
            let call = raw.begin("Reserve", &request, grpc_timeout).await;
            let status = soon("the deadline is kept", call.status()).await;
            assert_refused::<()>(Err(status), Code::DeadlineExceeded, "DEADLINE");
            // The row is still locked, and no transaction waits for it any more.
            all_clear(&server).await;
        }
        row.release().await;
        assert_eq!(server.history(event_id, None).await, ["EVENT_CREATED"], "nothing was done");
        let answer = server.reserve(request).await.expect("there is room");
        assert!(!answer.execution.replayed, "as the request_id tells");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_default_deadline_holds_for_callers_that_set_none() {
    let server = TestServer::with(&patient_and(&[QUIET])).await;
    let twin = server.twin_with(&[("server.default_deadline", "200ms"), QUIET]).await;
    server.event("show", 5).await;
    server.reserve(reserve("show", "ann")).await.expect("there is room");
    let row = server.hold_row("show").await;
    for strategy in STRATEGIES {
        let (event_id, reservation, options) = ("show".to_owned(), of_user("ann"), with(strategy));
        let answer = twin.reserve(pb::ReserveRequest { options, ..reserve("show", "bob") }).await;
        assert_refused(answer, Code::DeadlineExceeded, "DEADLINE");
        let request = pb::ConfirmRequest { event_id, reservation, options, ..Default::default() };
        assert_refused(twin.confirm(request).await, Code::DeadlineExceeded, "DEADLINE");
    }
    let request = pb::CancelEventRequest { event_id: "show".into(), ..Default::default() };
    assert_refused(twin.events().cancel_event(request).await, Code::DeadlineExceeded, "DEADLINE");
    all_clear(&server).await;
    for strategy in STRATEGIES {
        ended_by_deadline(&twin, strategy).await;
    }
    row.release().await;
    assert_eq!(server.history("show", None).await, ["EVENT_CREATED", "HELD"]);
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_deadline_that_passes_during_the_commit_holds_and_nothing_is_half_done() {
    let server = TestServer::with(&patient_and(&[QUIET])).await;
    let twin = server.twin_with(&[("server.default_deadline", "300ms"), QUIET]).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 5).await;
        let commits = server.hold_commits().await;
        let request =
            pb::ReserveRequest { request_id: "r".into(), options: with(strategy), ..reserve(event_id, "ann") };
        assert_refused(twin.reserve(request.clone()).await, Code::DeadlineExceeded, "DEADLINE");
        ended_by_deadline(&twin, strategy).await;
        all_clear(&server).await;
        commits.release().await;
        let answer = server.reserve(request).await.expect("there is room");
        assert_eq!(answer.execution.event_version, 2);
        assert_eq!(server.history(event_id, None).await, ["EVENT_CREATED", "HELD"]);
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn callers_that_reset_their_streams_leave_nothing_behind() {
    let server = TestServer::with(&patient_and(&[QUIET])).await;
    let raw = RawClient::connect(&server).await;
    server.event("show", 5).await;
    let row = server.hold_row("show").await;
    let mut calls = Vec::new();
    for (n, user) in ["ann", "bob", "cid", "dan"].into_iter().enumerate() {
        let options = by_turns(&STRATEGIES, n);
        let request = pb::ReserveRequest { request_id: user.into(), options, ..reserve("show", user) };
        calls.push(raw.begin("Reserve", &request, "3S").await);
    }
    server.waiting(4).await;
    calls.into_iter().for_each(RawCall::reset);
    eventually("the server has noticed", async || {
        let labels = "code=\"CANCELLED\",method=\"reservd.v1.ReservationService/Reserve\"";
        server.metric(&format!("reservd_rpcs_total{{{labels}}}")).await == 4.0
    })
    .await;
    // The calls end with their deadline, whether or not the row becomes free.
    all_clear(&server).await;
    row.release().await;
    assert_eq!(server.history("show", None).await, ["EVENT_CREATED"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn hundreds_of_cancelled_calls_poison_no_connection() {
    let server = TestServer::with(&patient_and(&[QUIET])).await;
    server.event("cut", 10_000).await;
    server.event("show", 10_000).await;
    // From cut off at once to just answered.
    let cut = all((0..400).map(async |n: usize| {
        let request = reserve("cut", &format!("user-{n}"));
        let call = server.reserve(pb::ReserveRequest { options: by_turns(&STRATEGIES, n), ..request });
        let limit = Duration::from_micros(u64::try_from(n).expect("small") * 150);
        timeout(limit, call).await.is_err()
    }))
    .await;
    assert!(cut.into_iter().filter(|is_cut| *is_cut).count() > 50, "many were cut off");
    all_clear(&server).await;

    // An acknowledged reservation is visible to all, on whichever connection it was made.
    let calls = (0..3 * CONNECTIONS).map(|n| {
        let request = reserve("show", &format!("user-{n}"));
        server.reserve(pb::ReserveRequest { options: by_turns(&STRATEGIES, n), ..request })
    });
    let (made, refused) = sorted(server.race("show", CONNECTIONS, calls).await);
    assert_eq!((made.len(), refused.len()), (3 * CONNECTIONS, 0), "{refused:?}");
    let mut sql = server.sql().await;
    for answer in made {
        let seen = "SELECT count(*) FROM reservations WHERE event_id = 'show' AND reservation_id = $1::text::uuid";
        let seen = sqlx::query_scalar(seen).bind(answer.reservation.reservation_id).fetch_one(&mut sql).await;
        assert_eq!(seen.ok(), Some(1_i64), "acknowledged, and not there");
    }
    all_clear(&server).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn callers_that_hang_up_while_queued_leave_the_queue_to_others() {
    let server = TestServer::with(&PATIENT).await;
    server.event("show", 100).await;
    let row = server.hold_row("show").await;
    let calls = (0..CONNECTIONS).map(|n| {
        let request = reserve("show", &format!("gone-{n}"));
        server.reserve(pb::ReserveRequest { options: by_turns(&STRATEGIES, n), ..request })
    });
    tokio::select! {
        answers = all(calls) => panic!("{answers:?}"),
        () = server.waiting(CONNECTIONS) => {}
    }
    let next = server.reserve(reserve("show", "ann"));
    let release = row.release();
    let (answer, ()) = tokio::join!(next, release);
    answer.expect("there is room");
    // The other calls are done, since their callers did not hang up in time.
    eventually("all of it is done", async || server.get_event("show").await.counts.unwrap_or_default().held == 13)
        .await;
    let refused = server.reserve(reserve("show", "gone-0")).await.expect_err("it is there already");
    assert_eq!(reason(&refused), "ALREADY_RESERVED");
    server.check_and_stop().await;
}
