//! Costly calls: few run at once, the same question is asked once, and no caller has an answer that is older than its
//! call, or that is not for it.

use reservd::rpc::pb::{VerifyEventRequest, VerifyEventResponse};
use sqlx::{Executor, PgConnection};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::support::{Guarded, PATIENT, TestServer, assert_refused, eventually, patient_and, reserve, soon};

type Verification = JoinHandle<Result<VerifyEventResponse, Status>>;

/// Locks what VerifyEvent reads, until the transaction of this connection ends.
async fn lock(server: &TestServer) -> PgConnection {
    let mut sql = server.sql().await;
    sql.execute(sqlx::raw_sql("BEGIN; LOCK TABLE waitlist")).await.expect("it can be locked");
    sql
}

async fn unlock(mut sql: PgConnection) {
    sql.execute("ROLLBACK").await.expect("it can be unlocked");
}

async fn a_lock_waits(server: &TestServer) {
    const WAITS: &str = "
        SELECT EXISTS (SELECT FROM pg_locks
                        WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 'waitlist'::regclass)";
    let mut sql = server.sql().await;
    eventually("a lock waits", async || sqlx::query_scalar(WAITS).fetch_one(&mut sql).await.expect("locks are shown"))
        .await;
}

fn verify(server: &TestServer, event_id: &str) -> Verification {
    let (mut client, request) = (server.events(), VerifyEventRequest { event_id: event_id.into() });
    tokio::spawn(async move { Ok(client.verify_event(request).await?.into_inner()) })
}

async fn finished(call: Verification) -> VerifyEventResponse {
    soon("it is answered", call).await.expect("no panic").expect("the event exists")
}

/// Waits until so many costly calls run, and so many wait.
async fn are(server: &TestServer, in_flight: f64, waiting: f64) {
    let sample = |state: &str| format!("reservd_call_queue{{class=\"costly\",state=\"{state}\"}}");
    let [running, queued] = ["in_flight", "waiting"].map(sample);
    eventually(&format!("{in_flight} run and {waiting} wait"), async || {
        server.metric(&running).await == in_flight && server.metric(&queued).await == waiting
    })
    .await;
}

async fn shared(server: &TestServer) -> f64 {
    server.metric("reservd_calls_shared_total{class=\"costly\"}").await
}

#[tokio::test]
async fn the_same_question_about_an_event_is_asked_once() {
    let server = TestServer::with(&patient_and(&[("server.max_costly_calls", "2")])).await;
    for event_id in ["e", "f"] {
        server.event(event_id, 1).await;
    }
    server.reserve(reserve("f", "ann")).await.expect("there is room");
    let locked = lock(&server).await;
    let first = verify(&server, "e");
    are(&server, 1.0, 0.0).await;
    let same: Vec<_> = (0..48).map(|_| verify(&server, "e")).collect();
    are(&server, 1.0, 48.0).await;
    // The other place is not theirs.
    let other = verify(&server, "f");
    are(&server, 2.0, 48.0).await;
    soon("others are served", server.get_event("e")).await;
    unlock(locked).await;
    assert_eq!(finished(first).await.event_version, 1);
    assert_eq!(finished(other).await.event_version, 2);
    for call in same {
        let audit = finished(call).await;
        assert!(audit.ok && audit.event_version == 1, "{audit:?}");
    }
    assert_eq!(shared(&server).await, 47.0);
    are(&server, 0.0, 0.0).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_others_their_answer() {
    let server = TestServer::with(&PATIENT).await;
    server.event("e", 1).await;
    // Preparing the statement would wait for a lock of its own.
    finished(verify(&server, "e")).await;
    let locked = lock(&server).await;
    let first = verify(&server, "e");
    are(&server, 1.0, 0.0).await;
    let leader = verify(&server, "e");
    are(&server, 1.0, 1.0).await;
    let others = [verify(&server, "e"), verify(&server, "e")];
    are(&server, 1.0, 3.0).await;
    // The next lock waits behind the first call, and the second call behind that lock.
    server.waiting(1).await;
    let mut next = server.sql().await;
    let next = tokio::spawn(async move {
        next.execute(sqlx::raw_sql("BEGIN; LOCK TABLE waitlist")).await.expect("it can be locked");
        next
    });
    a_lock_waits(&server).await;
    unlock(locked).await;
    let locked = next.await.expect("no panic");
    finished(first).await;
    eventually("the second has begun", async || shared(&server).await == 2.0).await;
    leader.abort();
    assert!(leader.await.is_err());
    unlock(locked).await;
    for call in others {
        assert!(finished(call).await.ok);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn who_may_not_ask_shares_no_answer() {
    let guarded = Guarded::with(&patient_and(&[])).await;
    guarded.event("e", 1).await;
    let locked = lock(&guarded.server).await;
    let request = || VerifyEventRequest { event_id: "e".into() };
    let readers = ["first", "second"].map(|name| {
        let client = guarded.caller(name, &["reader"]);
        tokio::spawn(async move { client.events().verify_event(request()).await.map(tonic::Response::into_inner) })
    });
    are(&guarded.server, 1.0, 1.0).await;
    let user = guarded.user("ann");
    let refused = soon("it does not wait", user.events().verify_event(request())).await;
    assert_refused(refused.map(drop), Code::PermissionDenied, "ROLE_MISSING");
    unlock(locked).await;
    for call in readers {
        assert!(finished(call).await.ok);
    }
    guarded.check_and_stop().await;
}
