//! A dump that is made while calls run, restored into another database: every event is right, and what was acknowledged
//! before the dump is there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reservd::rpc::pb::{self, reservation_service_client::ReservationServiceClient};
use tokio::{process::Command, task::JoinSet};
use tonic::transport::Channel;

use crate::support::{
    PATIENT, STRATEGIES, TestDatabase, TestServer, eventually, of_user,
    process::{TempFolder, finish},
    reserve, with,
};

const EVENTS: [&str; 3] = ["left", "middle", "right"];
/// Callers, by turns of each strategy.
const CALLERS: usize = 6;

/// Callers that reserve, confirm and cancel until they are told to stop.
struct Load {
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(server: &TestServer) -> Self {
        let (enough, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (client, enough, answered) = (server.reservations(), Arc::clone(&enough), Arc::clone(&answered));
            callers.spawn(async move {
                let mut number = 0;
                while !enough.load(Ordering::Relaxed) {
                    live(client.clone(), caller, number).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        Self { enough, answered, callers }
    }

    /// Waits for this many more lives.
    async fn more(&self, lives: usize) {
        let target = self.answered.load(Ordering::Relaxed) + lives;
        eventually("the load goes on", async || self.answered.load(Ordering::Relaxed) >= target).await;
    }

    async fn stop(self) {
        self.enough.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
    }
}

/// A user reserves two units, confirms one of them, and every fourth user cancels.
async fn live(mut client: ReservationServiceClient<Channel>, caller: usize, number: usize) {
    let (event_id, user) = (EVENTS[number % EVENTS.len()].to_owned(), format!("user-{caller}-{number}"));
    let options = with(STRATEGIES[caller % STRATEGIES.len()]);
    let request = pb::ReserveRequest { quantity: 2, options, request_id: user.clone(), ..reserve(&event_id, &user) };
    client.reserve(request).await.expect("there is room");
    let reservation = of_user(&user);
    let confirm = pb::ConfirmRequest {
        event_id: event_id.clone(),
        reservation: reservation.clone(),
        quantity: Some(1),
        options,
        ..Default::default()
    };
    client.confirm(confirm).await.expect("it is held");
    if number.is_multiple_of(4) {
        let cancel = pb::CancelRequest { event_id, reservation, options, ..Default::default() };
        client.cancel(cancel).await.expect("it is confirmed");
    }
}

async fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    let output = finish(command).await;
    assert_eq!(output.code, Some(0), "{program}: {output:?}");
}

#[tokio::test]
async fn a_dump_made_under_load_restores_to_a_ledger_that_is_right() {
    let (server, folder) = (TestServer::with(&PATIENT).await, TempFolder::new());
    for event_id in EVENTS {
        server.event(event_id, 1_000_000).await;
    }
    let before = pb::ReserveRequest { request_id: "before".into(), ..reserve("left", "ann") };
    let held = server.reserve(before.clone()).await.expect("there is room").reservation;
    let load = Load::start(&server);
    load.more(40).await;
    let dump = folder.path("reservd.dump").display().to_string();
    run("pg_dump", &["--format=custom", "--file", &dump, &server.database.url]).await;
    load.more(40).await;
    load.stop().await;
    let after = pb::ReserveRequest { request_id: "after".into(), ..reserve("left", "bob") };
    let lost = server.reserve(after.clone()).await.expect("there is room").reservation;

    let restored = TestDatabase::unmigrated().await;
    run("pg_restore", &["--exit-on-error", "--no-owner", "--dbname", &restored.url, &dump]).await;
    let restored = TestServer::on(restored, &[]).await;
    restored.check().await;
    let counted = |event: pb::Event| event.counts.unwrap_or_default().confirmed;
    let (now, then) = (counted(server.get_event("middle").await), counted(restored.get_event("middle").await));
    assert!(
        0 < then && then < now,
        "the dump has what was acknowledged before it, and not what came later: {then} of {now}"
    );
    // A request_id from before is remembered; one from after the dump is new again.
    let replayed = restored.reserve(before).await.expect("it is known");
    assert_eq!((replayed.execution.replayed, replayed.reservation), (true, held));
    let again = restored.reserve(after).await.expect("there is room");
    assert!(!again.execution.replayed && again.reservation.reservation_id != lost.reservation_id, "{again:?}");
    restored.check_and_stop().await;
    server.check_and_stop().await;
}
