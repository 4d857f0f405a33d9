//! A rolling upgrade: two servers are replaced one after the other while calls run. A client that follows the rules of
//! docs/CLIENTS.md loses no call, and no reservation is made twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use reservd::rpc::pb::{self, reservation_service_client::ReservationServiceClient};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{
    STRATEGIES, TestDatabase, TestServer, eventually,
    process::{Process, finish, program},
    reserve, with,
};

const CALLERS: usize = 8;
/// The longest that a caller goes on with one call.
const MAX_ATTEMPTS: usize = 200;

/// The servers that calls are spread over, as a client library does with addresses from DNS.
#[derive(Clone, Default)]
struct Servers {
    channels: Arc<Mutex<Vec<Channel>>>,
    next: Arc<AtomicUsize>,
}

impl Servers {
    fn pick(&self) -> ReservationServiceClient<Channel> {
        let channels = self.channels.lock();
        let place = self.next.fetch_add(1, Ordering::Relaxed) % channels.len();
        ReservationServiceClient::new(channels[place].clone())
    }

    async fn replace(&self, place: usize, server: &Process) {
        let channel = server.connect().await;
        self.channels.lock()[place] = channel;
    }
}

/// What the callers saw.
#[derive(Default)]
struct Seen {
    enough: AtomicBool,
    answered: AtomicUsize,
    repeated: AtomicUsize,
}

/// When the rules of docs/CLIENTS.md say to repeat a call; None: never.
fn pause(error: &Status) -> Option<Duration> {
    let details = error.get_error_details();
    if let Some(retry) = details.retry_info() {
        return retry.retry_delay;
    }
    let reason = details.error_info().map(|info| info.reason.as_str());
    // A connection that ended: without details, and from the library itself.
    let is_unknown = matches!(reason, None | Some("OUTCOME_UNKNOWN" | "DEADLINE"));
    let is_expected = matches!(error.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
    (is_unknown && (reason.is_some() || is_expected)).then_some(Duration::from_millis(20))
}

async fn call(servers: Servers, caller: usize, seen: Arc<Seen>) {
    let mut number = 0;
    while !seen.enough.load(Ordering::Relaxed) {
        let user = format!("user-{caller}-{number}");
        let options = with(STRATEGIES[number % STRATEGIES.len()]);
        let request = pb::ReserveRequest { request_id: user.clone(), options, ..reserve("show", &user) };
        for attempt in 1.. {
            match servers.pick().reserve(request.clone()).await {
                Ok(_) => break,
                Err(error) => {
                    let pause = pause(&error).unwrap_or_else(|| panic!("a call failed for good: {error:?}"));
                    assert!(attempt < MAX_ATTEMPTS, "{error:?}");
                    seen.repeated.fetch_add(1, Ordering::Relaxed);
                    // A client's part of the upgrade: it repeats when the error says that it may.
                    sleep(pause).await;
                }
            }
        }
        seen.answered.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
}

impl Seen {
    async fn more(&self, calls: usize) {
        let target = self.answered.load(Ordering::Relaxed) + calls;
        eventually("calls are answered", async || self.answered.load(Ordering::Relaxed) >= target).await;
    }
}

#[tokio::test]
async fn a_rolling_upgrade_loses_no_call() {
    let database = TestDatabase::new().await;
    let settings = ["database.migrate=false", "server.drain_limit=20s"];
    let auditor = TestServer::on(database.clone(), &[]).await;
    auditor.event("show", 1_000_000).await;
    let mut old = Vec::new();
    let servers = Servers::default();
    for _ in 0..2 {
        let server = Process::on(&database.url, &settings).await;
        let channel = server.connect().await;
        servers.channels.lock().push(channel);
        old.push(server);
    }
    let seen = Arc::<Seen>::default();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(servers.clone(), caller, Arc::clone(&seen)));
    }
    seen.more(50).await;

    // The order of docs/OPERATIONS.md: the schema, and then server by server, a new one before an old one.
    let mut migrate = program(["migrate"]);
    migrate.env("DATABASE_URL", &database.url);
    assert_eq!(finish(migrate).await.code, Some(0));
    seen.more(50).await;
    let mut new = Vec::new();
    for (place, old) in old.into_iter().enumerate() {
        let server = Process::on(&database.url, &settings).await;
        // Clients still know the old address when that server begins to stop.
        let stopping = tokio::spawn(old.stop());
        seen.more(30).await;
        servers.replace(place, &server).await;
        stopping.await.expect("it runs");
        new.push(server);
        seen.more(50).await;
    }
    seen.enough.store(true, Ordering::Relaxed);
    callers.join_all().await;

    let held = auditor.get_event("show").await.counts.unwrap_or_default().held;
    assert_eq!(held as usize, seen.answered.load(Ordering::Relaxed), "each call has one reservation");
    assert!(seen.repeated.load(Ordering::Relaxed) > 0, "some met a server that stops");
    for server in new {
        server.stop().await;
    }
    auditor.check_and_stop().await;
}
