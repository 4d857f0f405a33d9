//! A simulation of the engine and its queue: servers that share one database, in interleavings that a seed decides.
//!
//! ```text
//!   callers ----> server 1 (queue, engine) --\
//!          \----> server 2 (queue, engine) ---+--> model of PostgreSQL: rows, row locks, a clock, faults
//!   expiry, other writers, failovers --------/
//! ```
//!
//! A run is one thread on a virtual clock, and all that is left to chance comes from one generator: its seed replays it,
//! to the last bit. The engine is the one that serves; only the [`database`] is a model. Its statements take time to
//! travel and to work, wait for rows that others have locked, break with their connection before or after they took
//! effect, and meet a standby that lacks the last commits. The [`callers`](caller) ask, repeat what they asked, and stop
//! waiting. Then it is [checked](check) that the counters are right, that each answer is in the history with the same
//! content, that nothing was done twice, nothing that was refused was done, and no command was left without its answer.
//!
//! `make simulate SEEDS=1000000` runs many seeds; `make simulate SEED=17` runs one, and prints what happens.

mod caller;
mod check;
mod database;
mod others;
mod state;
mod units;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{runtime, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    config::{BatchScope, Execution, Watch},
    domain::{booking_close::BookingClose, decide::tests::world::World, event::Limits, time::Timestamp},
    ops::{contention::Contention, env::Env, execute::queue::Queue, feed::Feed},
    telemetry::metrics::Metrics,
};
use caller::{Callers, Server, a_policy, event_id};
use database::Model;
use state::{Hostility, Shared};

/// Seeds that every run of the tests tries.
const SEEDS: u64 = 10_000;

/// How a run is made, drawn from its seed.
struct Plan {
    hostility: Hostility,
    is_calm: bool,
    servers: usize,
    events: u8,
    callers: usize,
    calls: u32,
    /// How often others write, holds expire, and the primary fails.
    others: [u32; 3],
}

impl Plan {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let is_calm = rng.u8(..8) == 0;
        let is_faulty = !is_calm && rng.u8(..4) > 0;
        let hostility = Hostility {
            faults: if is_faulty { rng.f64() * 0.08 } else { 0.0 },
            max_pause: rng.u64(1..8),
            loses: !is_calm && rng.u8(..4) == 0,
        };
        let mut times = |most: u32| if is_calm || rng.bool() { 0 } else { rng.u32(..most) };
        let (writes, expiries, failovers) = (times(6), times(6), times(2));
        let failovers = if hostility.loses { rng.u32(1..6) } else { failovers };
        Self {
            hostility,
            is_calm,
            servers: if is_calm { 1 } else { rng.usize(1..3) },
            events: rng.u8(1..4),
            callers: rng.usize(2..8),
            calls: rng.u32(2..6),
            others: [writes, expiries, failovers],
        }
    }
}

fn settings(rng: &mut fastrand::Rng, is_calm: bool) -> Execution {
    Execution {
        max_attempts: rng.u32(2..8),
        backoff_base: Duration::from_millis(1),
        backoff_cap: Duration::from_millis(8),
        max_lock_wait: Duration::from_millis(rng.u64(10..200)),
        lanes: 1,
        batch_scope: if rng.bool() { BatchScope::Any } else { BatchScope::Event },
        max_batch: rng.usize(1..8),
        max_queue: if is_calm { 64 } else { rng.usize(3..64) },
        cached_events: rng.usize(..4),
    }
}

fn world(number: u8, rng: &mut fastrand::Rng, is_calm: bool) -> World {
    let mut world = World::new(rng.u32(1..12), a_policy(rng));
    world.event.id = event_id(number);
    let ttl = if is_calm { Duration::from_secs(60) } else { Duration::from_millis(rng.u64(5..200)) };
    world.event.definition.limits = Limits {
        max_quantity: 4,
        hold_ttl_default: Some(ttl),
        hold_ttl_max: Some(Duration::from_secs(60)),
        max_extensions: 2,
    };
    if !is_calm && rng.u8(..4) == 0 {
        let closes = 1_000_000_000 + rng.i64(..200_000);
        world.event.definition.booking_close =
            Timestamp::from_micros(closes).map_or(BookingClose::Never, BookingClose::At);
    }
    world
}

fn server(shared: &Shared, settings: Execution) -> Server {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    const WATCH: Watch = Watch {
        max_watches: 0,
        poll_interval: Duration::MAX,
        min_interval: Duration::MAX,
        heartbeat_interval: Duration::MAX,
        buffer_bytes: 0,
        max_bandwidth: 0,
    };
    let metrics = Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::new())));
    let (contention, feed, tasks) = (Arc::new(Contention::new()), Feed::new(WATCH), TaskTracker::new());
    let env = Env {
        database: Model::new(shared.clone()),
        settings,
        metrics,
        contention,
        feed,
        tasks,
        clock: Arc::default(),
        changed: Arc::default(),
    };
    Server { env, queue: Queue::new(settings) }
}

/// Runs a seed. Returns what identifies the run, or what is wrong.
fn run(seed: u64) -> Result<u64, Vec<String>> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    // What waits before an attempt is repeated draws from the thread's generator.
    fastrand::seed(seed);
    runtime.expect("a runtime without IO needs nothing").block_on(simulate(seed))
}

async fn simulate(seed: u64) -> Result<u64, Vec<String>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let plan = Plan::draw(&mut rng);
    let worlds: BTreeMap<_, _> =
        (0..plan.events).map(|number| (event_id(number), world(number, &mut rng, plan.is_calm))).collect();
    let all_settings: Vec<_> = (0..plan.servers).map(|_| settings(&mut rng, plan.is_calm)).collect();
    let shared = Shared::new(rng, worlds, plan.hostility);
    let servers: Vec<_> = all_settings.into_iter().map(|settings| server(&shared, settings)).collect();
    let (events, users, is_calm, asked) = (plan.events, 6, plan.is_calm, Arc::default());
    let callers = Callers { shared: shared.clone(), servers: servers.clone(), events, users, is_calm, asked };

    let mut tasks: Vec<_> = (0..plan.callers).map(|_| tokio::spawn(callers.clone().live(plan.calls))).collect();
    let [writes, expiries, failovers] = plan.others;
    tasks.push(tokio::spawn(others::write_beside(shared.clone(), events, writes)));
    tasks.push(tokio::spawn(others::expire(shared.clone(), servers[0].clone(), expiries)));
    tasks.push(tokio::spawn(others::fail_over(shared.clone(), failovers)));
    for task in tasks {
        if let Err(error) = task.await {
            shared.violation(format!("a task failed: {error}"));
        }
    }
    for Server { env, queue } in servers {
        env.tasks.close();
        if timeout(Duration::from_secs(60), env.tasks.wait()).await.is_err() {
            shared.violation("a task of a server does not end".into());
        }
        if !queue.is_idle() {
            shared.violation("a lane is not idle at the end".into());
        }
    }
    // Statements that lost their connection end by themselves.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = callers.asked.lock();
    let problems = catch_unwind(AssertUnwindSafe(|| check::check(&shared, &asked)));
    let problems = problems.unwrap_or_else(|_| vec!["the counters are wrong, as said above".into()]);
    if problems.is_empty() { Ok(shared.digest()) } else { Err(problems) }
}

/// Runs these seeds, and panics at the first that fails.
fn run_all(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(problems) = run(seed) {
            panic!("seed {seed}:\n{}\nIt replays by: make simulate SEED={seed}", problems.join("\n"));
        }
    }
}

/// Runs so many seeds from the first one, on each processor a share of them: ten thousand, unless the environment says
/// otherwise, as `make simulate` does.
#[test]
fn every_seed_is_right() {
    let number = |name, default| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(default);
    let (first, count) = (number("SIMULATE_SEED", 0), number("SIMULATE_SEEDS", SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = (first + thread..first + count).step_by(usize::try_from(threads).unwrap_or(1));
            scope.spawn(move || run_all(seeds));
        }
    });
}

#[test]
fn a_seed_replays_bit_by_bit() {
    for seed in 0..200 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
