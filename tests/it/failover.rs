//! A replica takes over that has other commits under the same versions, and new connections lead to it. A decision made
//! on a server's cache of the old database is not written there.
//!
//! A command is decided from the cache, without a read, when it joins a batch that is decided while the batch ahead is
//! written. So here a stalled commit makes a batch form.

use reservd::rpc::pb::{self, ExecutionStrategy};
use tokio::task::JoinHandle;
use tonic::{Response, Status};

use crate::support::{PgProxy, Stall, TestServer, eventually, patient_and, reason, reserve, soon, with};

type Call = JoinHandle<Result<pb::ReserveResponse, Status>>;

/// The count of commands that were decided from the cache.
const SPECULATIVE: &str = "reservd_batch_speculative_total";
const CAPACITY: i32 = 10;

/// What the replica has of an event at the version at which one unit is reserved in the old database.
#[derive(Clone, Copy, Debug)]
enum Replica {
    Closed,
    SoldOut,
    MoreReserved,
}
const REPLICAS: [Replica; 3] = [Replica::Closed, Replica::SoldOut, Replica::MoreReserved];

/// A server, the two databases to which its connections lead, and a server of its own on each of them.
struct Failover {
    before: TestServer,
    replica: TestServer,
    proxy: PgProxy,
    server: TestServer,
}

impl Failover {
    /// The server has reserved a unit of the event `show`, and has it in its cache.
    async fn prepare(contents: Replica) -> Self {
        let (before, replica) = (TestServer::start().await, TestServer::start().await);
        for server in [&before, &replica] {
            server.event("show", CAPACITY).await;
            server.event("other", 1000).await;
            server.event("locked", 1000).await;
        }
        let wish = |quantity| pb::ReserveRequest { quantity, ..reserve("show", "zoe") };
        match contents {
            Replica::Closed => {
                let close = pb::CloseEventRequest { event_id: "show".into(), ..Default::default() };
                replica.events().close_event(close).await.map(drop)
            }
            Replica::SoldOut => replica.reserve(wish(CAPACITY)).await.map(drop),
            Replica::MoreReserved => replica.reserve(wish(5)).await.map(drop),
        }
        .expect("it is possible");

        let proxy = PgProxy::to(&before.database).await;
        let settings = patient_and(&[
            ("database.url", proxy.url()),
            ("database.max_connections", "3"),
            ("execution.lanes", "1"),
            ("expiry.interval", "1h"),
            ("waitlist.promotion_interval", "1h"),
        ]);
        let server = TestServer::on(before.database.clone(), &settings).await;
        let failover = Self { before, replica, proxy, server };
        failover.fill_pool(&failover.before).await;
        failover.send("show", "ann", ExecutionStrategy::Coalesced).await.expect("no panic").expect("there is room");
        failover
    }

    fn send(&self, event_id: &str, user: &str, strategy: ExecutionStrategy) -> Call {
        let wish = pb::ReserveRequest { options: with(strategy), ..reserve(event_id, user) };
        let mut client = self.server.reservations();
        tokio::spawn(async move { client.reserve(wish).await.map(Response::into_inner) })
    }

    /// Uses up the server's connections for mutations, to the database `now`, with calls that wait for a row.
    async fn fill_pool(&self, now: &TestServer) {
        let row = now.hold_row("locked").await;
        let calls = ["ann", "bob"].map(|user| self.send("locked", user, ExecutionStrategy::Pessimistic));
        now.waiting(calls.len()).await;
        row.release().await;
        for call in calls {
            call.await.expect("no panic").expect("there is room");
        }
    }

    /// Sends a call behind one with a stalled commit and one that begins the next batch, so that it joins that batch.
    async fn join_a_batch(&self, now: &TestServer, user: &str) -> (Stall, Call) {
        let stall = now.stall_commits_of("stalled").await;
        self.send("other", "stalled", ExecutionStrategy::Coalesced);
        now.commit_is_stalled().await;
        self.send("other", "next", ExecutionStrategy::Coalesced);
        self.are_queued(2).await;
        let call = self.send("show", user, ExecutionStrategy::Coalesced);
        self.are_queued(3).await;
        (stall, call)
    }

    async fn are_queued(&self, commands: i64) {
        let metrics = self.server.app.metrics();
        eventually("the commands are queued", async || metrics.batch_commands.get() == commands).await;
    }

    /// The answer of the call must come from the replica's rows.
    async fn assert_answered_by_the_replica(self, contents: Replica, call: Call) {
        let answer = soon("it is answered", call).await.expect("no panic");
        let answer = answer.as_ref().map_err(reason).map(|_| ());
        let (expected, held) = match contents {
            Replica::Closed => (Err("EVENT_NOT_OPEN".to_owned()), 0),
            Replica::SoldOut => (Err("SOLD_OUT".to_owned()), CAPACITY),
            Replica::MoreReserved => (Ok(()), 6),
        };
        let event = self.replica.get_event("show").await;
        assert_eq!((answer, event.counts.unwrap_or_default().held), (expected, held), "{contents:?}");
        self.server.app.stop().await;
        self.before.check_and_stop().await;
        self.replica.check_and_stop().await;
    }
}

#[tokio::test]
async fn a_decision_made_before_a_failover_is_not_written_after_it() {
    for contents in REPLICAS {
        let failover = Failover::prepare(contents).await;
        let Failover { before, server, .. } = &failover;
        let row = before.hold_row("locked").await;
        let (stall, call) = failover.join_a_batch(before, "bob").await;
        // These two take both connections, the second as soon as the stalled batch is done. So the batch behind that is
        // decided, and waits for a connection.
        failover.send("locked", "cid", ExecutionStrategy::Pessimistic);
        before.waiting(4).await;
        failover.send("locked", "dan", ExecutionStrategy::Pessimistic);
        eventually("it is queued", async || server.app.metrics().rpcs_in_flight.get() == 5).await;
        let speculative = server.metric(SPECULATIVE).await;
        stall.release().await;
        eventually("the batch is decided", async || server.metric(SPECULATIVE).await > speculative).await;
        before.waiting(3).await;

        failover.proxy.lead_to(&failover.replica.database);
        failover.proxy.cut().await;
        row.release().await;
        failover.assert_answered_by_the_replica(contents, call).await;
    }
}

#[tokio::test]
async fn after_a_failover_no_decision_rests_on_the_old_cache() {
    for contents in REPLICAS {
        let failover = Failover::prepare(contents).await;
        failover.proxy.lead_to(&failover.replica.database);
        failover.proxy.cut().await;
        eventually("it has connected again", async || {
            let read = pb::GetEventRequest { event_id: "show".into() };
            failover.server.events().get_event(read).await.is_ok()
        })
        .await;
        failover.fill_pool(&failover.replica).await;
        let (stall, call) = failover.join_a_batch(&failover.replica, "bob").await;
        stall.release().await;
        failover.assert_answered_by_the_replica(contents, call).await;
    }
}
