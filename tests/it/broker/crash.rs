//! Crashes of the server, of PostgreSQL and of the broker under load: the consumer gets every committed change and no
//! other, in the order of its event.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nix::sys::signal::{Signal, kill};
use reservd::rpc::pb::{
    self, feed_service_client::FeedServiceClient, reservation_service_client::ReservationServiceClient,
};
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

use super::relay::places;
use crate::support::{
    AmqpQueue, Rabbit, ReceivedChange, TestBroker, TestServer, assert_in_order, eventually, of_user,
    process::{Process, TempFolder, clients, postmaster},
    reserve, soon,
};

const EVENTS: [&str; 2] = ["left", "right"];
const CALLERS: usize = 8;
/// Reservations before and after the crash.
const WARM: usize = 100;

/// Callers that reserve, then confirm or cancel, for one user after another.
struct Load {
    done: AtomicUsize,
    failed: AtomicUsize,
    enough: AtomicBool,
    users: AtomicUsize,
}

impl Load {
    fn begin(channel: &Channel, first_user: usize) -> (Arc<Self>, Vec<JoinHandle<()>>) {
        let (done, failed, enough) = Default::default();
        let load = Arc::new(Self { done, failed, enough, users: AtomicUsize::new(first_user) });
        let callers = (0..CALLERS).map(|_| {
            let (load, client) = (Arc::clone(&load), ReservationServiceClient::new(channel.clone()));
            tokio::spawn(async move { load.call(client).await })
        });
        let callers = callers.collect();
        (load, callers)
    }

    async fn call(&self, mut client: ReservationServiceClient<Channel>) {
        while !self.enough.load(Ordering::Relaxed) {
            let number = self.users.fetch_add(1, Ordering::Relaxed);
            let counted = match live(&mut client, number).await {
                Ok(()) => &self.done,
                Err(_) => &self.failed,
            };
            counted.fetch_add(1, Ordering::Relaxed);
            // Failing calls return at once: yield to other tasks.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for this number of further users.
    async fn more(&self, users: usize) {
        let target = self.done.load(Ordering::Relaxed) + users;
        eventually("the load goes on", async || self.done.load(Ordering::Relaxed) >= target).await;
    }

    async fn end(&self, callers: Vec<JoinHandle<()>>) {
        self.enough.store(true, Ordering::Relaxed);
        for caller in callers {
            soon("a caller ends", caller).await.expect("no caller panics");
        }
    }
}

async fn live(client: &mut ReservationServiceClient<Channel>, number: usize) -> Result<(), Status> {
    let (event_id, user) = (EVENTS[number % 2].to_owned(), format!("user-{number}"));
    client.reserve(reserve(&event_id, &user)).await?;
    let reservation = of_user(&user);
    if number.is_multiple_of(3) {
        client.cancel(pb::CancelRequest { event_id, reservation, ..Default::default() }).await?;
    } else {
        client.confirm(pb::ConfirmRequest { event_id, reservation, ..Default::default() }).await?;
    }
    Ok(())
}

fn assert_same(received: &[ReceivedChange], committed: &BTreeSet<(String, i64)>) {
    assert_in_order(received);
    let received: BTreeSet<_> = received.iter().map(ReceivedChange::place).collect();
    assert!(
        received == *committed,
        "received, and not there: {:?}",
        received.difference(committed).collect::<Vec<_>>()
    );
}

/// Every change of a server, read page by page.
async fn committed(server: &Process) -> BTreeSet<(String, i64)> {
    let mut feed = FeedServiceClient::new(server.connect().await);
    let mut found = BTreeSet::new();
    for event_id in EVENTS {
        let mut request = pb::ListChangesRequest { event_id: event_id.into(), page_size: 1000, ..Default::default() };
        loop {
            let page = feed.list_changes(request.clone()).await.expect("listed").into_inner();
            found.extend(page.changes.into_iter().map(|change| (change.event_id, change.version)));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
    }
    found
}

#[tokio::test]
async fn a_killed_server_and_a_killed_postgresql_lose_no_change() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    let settings = broker.settings().map(|(name, value)| format!("{name}={value}"));
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let folder = TempFolder::new();
    let data_dir = folder.path("data");
    let mut server = Process::embedded(&data_dir, &settings).await;
    let (mut events, _) = clients(&server.connect().await);
    for event_id in EVENTS {
        let event = pb::Event { event_id: event_id.into(), capacity: 1_000_000, ..Default::default() };
        let request = pb::CreateEventRequest { event: Some(event), ..Default::default() };
        events.create_event(request).await.expect("the event is created");
    }
    for round in 0..3 {
        let (load, callers) = Load::begin(&server.connect().await, round * 1_000_000);
        load.more(WARM).await;
        if round > 0 {
            kill(postmaster(&data_dir).expect("PostgreSQL runs"), Signal::SIGKILL).expect("it can be killed");
        }
        if round == 1 {
            load.more(WARM).await;
            load.end(callers).await;
        } else {
            server.kill().await;
            load.end(callers).await;
            server = Process::embedded(&data_dir, &settings).await;
        }
    }
    let committed = committed(&server).await;
    let received = queue.until(committed.clone()).await;
    assert_same(&received, &committed);
    server.stop().await;
}

#[tokio::test]
async fn a_killed_broker_costs_no_reservation_and_no_change() {
    let mut rabbit = Rabbit::start().await;
    let broker = rabbit.names();
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    // RabbitMQ persists the exchange, the queue and the binding within some seconds.
    eventually("the queue is on disk", async || rabbit.has_on_disk(queue.name()) >= 2).await;
    let server = TestServer::with(&broker.settings()).await;
    for event_id in EVENTS {
        server.event(event_id, 1_000_000).await;
    }
    let (load, callers) = Load::begin(&server.channel(), 0);
    load.more(WARM).await;
    let mut received = queue.take(WARM).await;
    rabbit.kill().await;
    load.more(WARM).await;
    rabbit.run().await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    load.more(WARM).await;
    load.end(callers).await;
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "the broker's end costs no reservation");
    let committed = places(&mut server.sql().await).await;
    let missing = committed.iter().filter(|place| received.iter().all(|message| message.place() != **place));
    received.extend(queue.until(missing.cloned().collect()).await);
    assert_same(&received, &committed);
    server.check_and_stop().await;
    rabbit.kill().await;
}
