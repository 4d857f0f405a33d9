//! Crashes under load: of the server, of PostgreSQL, of both. A repetition with the same request_id gets each
//! acknowledged answer again, nothing is lost, nothing is doubled, and the audit is clean.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nix::sys::signal::{Signal, kill};
use reservd::rpc::pb::{self, reservation_service_client::ReservationServiceClient};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{
    STRATEGIES, eventually,
    process::{Process, TempFolder, clients, is_at_rest, postmaster},
    reserve, soon, with,
};

const EVENTS: [&str; 2] = ["left", "right"];
const WORKERS: usize = 12;
/// Acknowledged answers before the crash.
const WARM: usize = 150;

/// One step of one user's reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Reserve,
    Confirm,
    Cancel,
}

/// A user makes a reservation, and by turns confirms it, cancels it, both or neither.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    user: String,
    number: usize,
    step: Step,
}

impl Call {
    fn event_id(&self) -> String {
        EVENTS[self.number % EVENTS.len()].into()
    }

    fn request_id(&self) -> String {
        format!("{}-{:?}", self.user, self.step)
    }

    fn next(&self) -> Option<Self> {
        let step = match (self.step, self.number % 4) {
            (Step::Reserve, 1 | 3) => Step::Confirm,
            (Step::Reserve, 2) | (Step::Confirm, 3) => Step::Cancel,
            _ => return None,
        };
        Some(Self { step, ..self.clone() })
    }

    async fn send(&self, client: &mut ReservationServiceClient<Channel>) -> Result<Answer, Status> {
        let (event_id, request_id) = (self.event_id(), self.request_id());
        let options = with(STRATEGIES[self.number / 2 % 2]);
        let reservation = crate::support::of_user(&self.user);
        let (reservation, execution) = match self.step {
            Step::Reserve => {
                let request = pb::ReserveRequest { quantity: 2, request_id, options, ..reserve(&event_id, &self.user) };
                let answer = client.reserve(request).await?.into_inner();
                (answer.reservation, answer.execution)
            }
            Step::Confirm => {
                let request = pb::ConfirmRequest {
                    event_id,
                    reservation,
                    quantity: Some(1),
                    request_id,
                    options,
                    ..Default::default()
                };
                let answer = client.confirm(request).await?.into_inner();
                (answer.reservation, answer.execution)
            }
            Step::Cancel => {
                let request = pb::CancelRequest { event_id, reservation, request_id, options, ..Default::default() };
                let answer = client.cancel(request).await?.into_inner();
                (answer.reservation, answer.execution)
            }
        };
        let execution = execution.expect("a mutation tells how it was carried out");
        Ok(Answer {
            reservation: reservation.expect("the reservation"),
            event_version: execution.event_version,
            replayed: execution.replayed,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    reservation: pb::Reservation,
    event_version: i64,
    replayed: bool,
}

/// The knowledge of the callers.
#[derive(Default)]
struct Ledger {
    acknowledged: Mutex<BTreeMap<Call, Answer>>,
    /// Calls that were sent and got no answer.
    in_doubt: Mutex<Vec<Call>>,
    users: AtomicUsize,
    count: AtomicUsize,
    enough: AtomicBool,
}

/// What a caller does without an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Assumes that the server is gone.
    Leaves,
    /// Repeats the call with the same request_id until it gets an answer.
    Insists,
}

impl Ledger {
    /// Calls until told to stop, or the server is gone.
    async fn work(self: Arc<Self>, mut client: ReservationServiceClient<Channel>, manner: Manner) {
        while !self.enough.load(Ordering::Relaxed) {
            let number = self.users.fetch_add(1, Ordering::Relaxed);
            let mut next = Some(Call { user: format!("user-{number}"), number, step: Step::Reserve });
            while let Some(call) = next {
                match call.send(&mut client).await {
                    Ok(answer) => next = self.acknowledge(call, answer),
                    Err(status) => {
                        assert_is_no_verdict(&status);
                        if manner == Manner::Leaves && status.code() != Code::Aborted {
                            self.in_doubt.lock().expect("no holder panics").push(call);
                            return;
                        }
                        next = Some(call);
                    }
                }
            }
        }
    }

    fn acknowledge(&self, call: Call, answer: Answer) -> Option<Call> {
        let next = call.next();
        self.acknowledged.lock().expect("no holder panics").insert(call, Answer { replayed: true, ..answer });
        self.count.fetch_add(1, Ordering::Relaxed);
        next
    }

    /// Waits for this many more answers.
    async fn more(&self, answers: usize) {
        let target = self.count.load(Ordering::Relaxed) + answers;
        eventually("the load gets its answers", async || self.count.load(Ordering::Relaxed) >= target).await;
    }

    /// Starts the load.
    async fn begin(self: &Arc<Self>, server: &Process, manner: Manner) -> Vec<tokio::task::JoinHandle<()>> {
        self.enough.store(false, Ordering::Relaxed);
        let mut tasks = Vec::new();
        for _ in 0..WORKERS {
            let client = clients(&server.connect().await).1;
            tasks.push(tokio::spawn(Arc::clone(self).work(client, manner)));
        }
        tasks
    }

    /// Each acknowledged answer is repeated, each unanswered call gets an answer, each reservation is as its last
    /// response said, there is no other reservation, and the audit is clean.
    async fn check(&self, server: &Process) {
        let (mut events, mut reservations) = clients(&server.connect().await);
        let acknowledged = self.acknowledged.lock().expect("no holder panics").clone();
        for (call, answer) in &acknowledged {
            let again = call.send(&mut reservations).await;
            assert_eq!(again.as_ref().expect("answered again"), answer, "{call:?}");
        }
        let in_doubt = std::mem::take(&mut *self.in_doubt.lock().expect("no holder panics"));
        for call in in_doubt {
            let answer = call.send(&mut reservations).await.expect("the outcome is repeated, or made");
            self.acknowledge(call, answer);
        }

        let mut expected: BTreeMap<String, pb::Reservation> = BTreeMap::new();
        for (call, answer) in &*self.acknowledged.lock().expect("no holder panics") {
            // In the order of the steps, so that the last one counts.
            expected.insert(call.user.clone(), answer.reservation.clone());
        }
        let mut found = BTreeMap::new();
        for event_id in EVENTS {
            let audit = events.verify_event(pb::VerifyEventRequest { event_id: event_id.into() }).await;
            let audit = audit.expect("verified").into_inner();
            assert!(audit.ok, "{event_id}: {:?}", audit.problems);
            let mut request =
                pb::ListReservationsRequest { event_id: event_id.into(), page_size: 1000, ..Default::default() };
            loop {
                let page = reservations.list_reservations(request.clone()).await.expect("listed").into_inner();
                found.extend(page.reservations.into_iter().map(|it| (it.user_id.clone(), it)));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
        }
        assert_eq!(found.len(), expected.len(), "lost, or made without a call");
        for (user, expected) in expected {
            assert_eq!(found[&user], expected);
        }
    }
}

/// Asserts a connection error or a request to retry: never a refusal, and never a defect.
fn assert_is_no_verdict(status: &Status) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    let known =
        ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE", "VERSION_CONTENTION", "LOCK_TIMEOUT", "DRAINING"];
    assert!(reason.as_deref().is_none_or(|reason| known.contains(&reason)), "{status:?}");
}

async fn create_events(server: &Process) {
    let (mut events, _) = clients(&server.connect().await);
    for event_id in EVENTS {
        let event = pb::Event { event_id: event_id.into(), capacity: 1_000_000, ..Default::default() };
        let request = pb::CreateEventRequest { event: Some(event), ..Default::default() };
        events.create_event(request).await.expect("the event is created");
    }
}

async fn join(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        soon("a caller ends", task).await.expect("no caller met a verdict that it must not meet");
    }
}

fn data_dir(folder: &TempFolder) -> PathBuf {
    folder.path("data")
}

#[tokio::test]
async fn a_killed_server_keeps_everything_when_it_starts_again() {
    let folder = TempFolder::new();
    let data_dir = data_dir(&folder);
    let ledger = Arc::new(Ledger::default());
    let mut server = Process::embedded(&data_dir, &[]).await;
    create_events(&server).await;
    for round in 0..3 {
        let tasks = ledger.begin(&server, Manner::Leaves).await;
        ledger.more(WARM).await;
        if round == 1 {
            // As in a power cut, PostgreSQL can't shut down cleanly either.
            kill(postmaster(&data_dir).expect("PostgreSQL runs"), Signal::SIGKILL).expect("it can be killed");
        }
        server.kill().await;
        join(tasks).await;
        server = Process::embedded(&data_dir, &[]).await;
        ledger.check(&server).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_killed_postgresql_comes_back_and_nothing_acknowledged_is_lost() {
    let folder = TempFolder::new();
    let data_dir = data_dir(&folder);
    let ledger = Arc::new(Ledger::default());
    let server = Process::embedded(&data_dir, &[]).await;
    create_events(&server).await;
    for _ in 0..2 {
        let tasks = ledger.begin(&server, Manner::Insists).await;
        ledger.more(WARM).await;
        let killed = postmaster(&data_dir).expect("PostgreSQL runs");
        kill(killed, Signal::SIGKILL).expect("it can be killed");
        eventually("another PostgreSQL runs", async || {
            postmaster(&data_dir).is_some_and(|successor| successor != killed)
        })
        .await;
        ledger.more(WARM).await;
        ledger.enough.store(true, Ordering::Relaxed);
        join(tasks).await;
        ledger.check(&server).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn the_embedded_database_ends_with_a_killed_server_and_the_next_start_works() {
    let folder = TempFolder::new();
    let data_dir = data_dir(&folder);
    let server = Process::embedded(&data_dir, &[]).await;
    assert!(!is_at_rest(&data_dir), "PostgreSQL holds its lock while it runs");
    create_events(&server).await;
    server.kill().await;
    eventually("PostgreSQL ends", async || is_at_rest(&data_dir)).await;
    assert_eq!(postmaster(&data_dir), None, "it shut down in order");

    let server = Process::embedded(&data_dir, &[]).await;
    Ledger::default().check(&server).await;
    server.stop().await;
    assert!(is_at_rest(&data_dir), "an orderly stop leaves nothing behind");
}
