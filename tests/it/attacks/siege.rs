//! A server under attack: a process whose memory is measured, and honest callers who go on meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use reservd::rpc::pb::{CancelRequest, CreateEventRequest, Event, GetEventRequest};
use tokio::task::JoinHandle;

use super::arsenal::{Attack, Target};
use crate::support::{
    TestDatabase, TestServer, eventually, of_user,
    process::{Process, clients},
    reserve,
};

/// The most that the memory of a server under attack may grow by.
const MAX_GROWTH: u64 = 64 << 20;
/// Honest callers.
const CALLERS: usize = 4;
/// Answers that each honest caller must get before the attack, and again after.
const CALLS: usize = 40;
/// The event of the honest callers.
const EVENT: &str = "concert";

/// A server under attack.
pub struct Siege {
    attack: Attack,
    server: Process,
    database: TestDatabase,
    callers: Callers,
    /// The server's memory before, in bytes.
    before: u64,
}

impl Siege {
    /// A warmed-up server with honest callers.
    pub async fn begin(attack: Attack) -> Self {
        let database = TestDatabase::new().await;
        let server = Process::on(&database.url, &[]).await;
        let (mut events, _) = clients(&server.connect().await);
        let labels: BTreeMap<_, _> = (0..32).map(|n| (format!("k{n}"), "v".repeat(256))).collect();
        // Many events, so that a listing is long.
        for event_id in std::iter::once(EVENT.to_owned()).chain((0..60).map(|n| format!("long-{n}"))) {
            let event = Event { event_id, capacity: 1000, labels: labels.clone(), ..Default::default() };
            let request = CreateEventRequest { event: Some(event), ..Default::default() };
            events.create_event(request).await.expect("an event is created");
        }
        let callers = Callers::begin(&server).await;
        callers.are_answered().await;
        let before = memory(&server, "VmRSS");
        fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("its peak can be reset");
        Self { attack, server, database, callers, before }
    }

    pub fn target(&self) -> Target {
        Target { address: self.server.address, event_id: EVENT.into() }
    }

    /// Makes sure that honest callers still get answers.
    pub async fn goes_on(&self) {
        self.callers.are_answered().await;
    }

    /// Ends the siege: honest callers got answers all the time, and still do; the memory has hardly grown;
    /// the server had no internal error; the audit is clean.
    pub async fn end(self) {
        self.callers.are_answered().await;
        self.callers.end().await;
        let growth = memory(&self.server, "VmHWM").saturating_sub(self.before);
        assert!(growth < MAX_GROWTH, "the server's memory grew by {} MiB: {}", growth >> 20, self.attack.about());
        let log = self.server.stop().await;
        let bad = log.iter().find(|line| line.contains("panicked") || line.contains("\"ERROR\""));
        assert_eq!(bad, None);
        TestServer::on(self.database, &[]).await.check_and_stop().await;
    }
}

/// A figure of a process's memory, in bytes.
fn memory(server: &Process, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("it is in the file");
    kilobytes.trim().parse::<u64>().expect("a number") << 10
}

/// Callers on connections of their own, who reserve, cancel and read, again and again.
struct Callers {
    answered: Arc<[AtomicUsize; CALLERS]>,
    ended: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
}

impl Callers {
    async fn begin(server: &Process) -> Self {
        let (answered, ended) = (Arc::new([const { AtomicUsize::new(0) }; CALLERS]), Arc::new(AtomicBool::new(false)));
        let mut running = Vec::new();
        for number in 0..CALLERS {
            let (mut events, mut reservations) = clients(&server.connect().await);
            let (answered, ended) = (Arc::clone(&answered), Arc::clone(&ended));
            let user = format!("honest-{number}");
            running.push(tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    reservations.reserve(reserve(EVENT, &user)).await.expect("there is room");
                    let cancel =
                        CancelRequest { event_id: EVENT.into(), reservation: of_user(&user), ..Default::default() };
                    reservations.cancel(cancel).await.expect("it is cancelled");
                    events.get_event(GetEventRequest { event_id: EVENT.into() }).await.expect("it is there");
                    answered[number].fetch_add(3, Ordering::Relaxed);
                }
            }));
        }
        Self { answered, ended, running }
    }

    /// Waits until each caller has got some more answers.
    async fn are_answered(&self) {
        let counts = || self.answered.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = counts();
        eventually("honest callers are answered", async || {
            let failed = self.running.iter().any(JoinHandle::is_finished);
            failed || counts().iter().zip(&before).all(|(now, before)| now - before >= CALLS)
        })
        .await;
    }

    async fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        for caller in self.running {
            caller.await.expect("an honest caller was answered every time");
        }
    }
}
