//! Database connections: neither mutations nor reads that wait can take those of the others.

use reservd::rpc::pb::{self, ExecutionStrategy, GetWaitlistEntryRequest};
use sqlx::Executor;
use tonic::Code;

use crate::support::{TestServer, assert_refused, entry_of_user, eventually, reserve, soon, with};

/// Three quarters of four connections are for either.
const SETTINGS: [(&str, &str); 2] = [("database.max_connections", "4"), ("server.default_deadline", "60s")];

async fn pool_usage(server: &TestServer) -> usize {
    server.app.ledger().pool().usage().0
}

#[tokio::test]
async fn mutations_that_wait_leave_reads_their_connections() {
    let server = TestServer::with(&SETTINGS).await;
    server.event("locked", 10).await;
    let row = server.hold_row("locked").await;
    let calls = ["ann", "bob", "cid"].map(|user| {
        let (mut client, options) = (server.reservations(), with(ExecutionStrategy::Pessimistic));
        tokio::spawn(async move { client.reserve(pb::ReserveRequest { options, ..reserve("locked", user) }).await })
    });
    server.waiting(calls.len()).await;
    let more = pb::ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("locked", "dan") };
    assert_refused(server.reserve(more).await, Code::ResourceExhausted, "OVERLOADED");
    for _ in 0..10 {
        soon("a read has a connection", server.get_event("locked")).await;
    }
    row.release().await;
    for call in calls {
        call.await.expect("no panic").expect("there is room");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn reads_that_wait_leave_mutations_their_connections() {
    let server = TestServer::with(&SETTINGS).await;
    server.event("show", 10).await;
    let mut lock = server.sql().await;
    lock.execute(sqlx::raw_sql("BEGIN; LOCK TABLE waitlist")).await.expect("it can be locked");
    let entry = || GetWaitlistEntryRequest { event_id: "show".into(), entry: entry_of_user("ann") };
    let reads = [(); 3].map(|()| {
        let mut client = server.waitlist();
        tokio::spawn(async move { client.get_waitlist_entry(entry()).await })
    });
    eventually("they have the connections of reads", async || pool_usage(&server).await == 3).await;
    let more = server.waitlist().get_waitlist_entry(entry()).await;
    assert_refused(more.map(drop), Code::ResourceExhausted, "OVERLOADED");
    for user in ["ann", "bob"] {
        soon("a mutation has a connection", server.reserve(reserve("show", user))).await.expect("there is room");
    }
    lock.execute("ROLLBACK").await.expect("it can be unlocked");
    for read in reads {
        let answer = read.await.expect("no panic");
        assert_refused(answer.map(drop), Code::NotFound, "WAITLIST_ENTRY_NOT_FOUND");
    }
    server.check_and_stop().await;
}
