//! The load: callers on a few connections, on threads of their own with a runtime for each, so that a
//! caller's whole turn costs no hand-over between threads.
//!
//! In a closed loop each caller asks as soon as it has its answer. In an open loop arrivals are due at
//! a fixed rate; a caller that is free takes the next, and its latency counts from when that was due,
//! whether or not a caller was free then. So a server that stalls is charged for all arrivals
//! meanwhile (no coordinated omission).

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use http::HeaderValue;
use tokio::{
    sync::{Semaphore, oneshot},
    task::LocalSet,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    Failure, pb,
    pick::{Picker, event_id},
    scenario::Work,
    schedule::Schedule,
    tally::Tally,
    wire::{self, CallError, Caller, Rpc},
};

/// Callers that share one connection.
const CALLERS_PER_CONNECTION: u32 = 128;
/// Cores for each thread of callers.
const CORES_PER_THREAD: usize = 4;
/// Arrivals closer together than this come in one wake-up.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
/// Codes that say that nothing was changed.
const CERTAINLY_NOTHING: [Code; 6] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::ResourceExhausted,
];

/// What to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub server: SocketAddr,
    /// What each call shows there, if it has to.
    pub bearer: Option<HeaderValue>,
    /// The strategy that each call names.
    pub strategy: pb::ExecutionStrategy,
    /// What callers do.
    pub work: Work,
    /// At which events.
    pub picker: Picker,
    /// How many callers there are.
    pub callers: u32,
    /// Arrivals a second, in an open loop.
    pub arrivals: Option<f64>,
    /// How long it runs before it is measured, and how long it is.
    pub warm_up: Duration,
    pub duration: Duration,
    /// Whether each call has a request_id.
    pub request_ids: bool,
    /// Makes users, in another order for another seed.
    pub seed: u64,
}

/// Runs the load, and returns when the last call has been answered.
pub async fn run(load: &Load) -> Result<Tally, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(cores.div_ceil(CORES_PER_THREAD)).unwrap_or(1).min(load.callers).max(1);
    let mut running = Vec::new();
    for number in 0..threads {
        let mut part = load.clone();
        part.callers = load.callers / threads + u32::from(number < load.callers % threads);
        part.arrivals = load.arrivals.map(|rate| rate / f64::from(threads));
        part.seed = load.seed.wrapping_add(u64::from(number) << 32);
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            // Where the benchmark was interrupted, the receiver is gone.
            let _ = tell.send(run_thread(part));
        })?;
        running.push(told);
    }
    let mut tally = Tally::new()?;
    for told in running {
        tally.merge(&told.await.map_err(|_| "a thread of callers ended early")??);
    }
    Ok(tally)
}

fn run_thread(load: Load) -> Result<Tally, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let mut connections = Vec::new();
        for _ in 0..load.callers.div_ceil(CALLERS_PER_CONNECTION) {
            connections.push(wire::connect(load.server).await?);
        }
        let group = Rc::new(Group::new(load)?);
        let pacer = group.start_pacer()?;
        let callers = (0..group.load.callers).map(|number| {
            let send = connections[number as usize % connections.len()].clone();
            let member = Member::new(Rc::clone(&group), Caller::new(send, group.load.bearer.clone()), number);
            tokio::task::spawn_local(member.live())
        });
        for ended in join_all(callers.collect::<Vec<_>>()).await {
            ended??;
        }
        if let Some(pacer) = pacer {
            pacer.join().map_err(|_| "the thread that paces arrivals failed")?;
        }
        let mut tally = group.tally.replace(Tally::new()?);
        group.charge_for_unserved(&mut tally);
        Ok(tally)
    })
}

/// What the callers of one thread share.
struct Group {
    load: Load,
    start: Instant,
    /// What is measured lies between these.
    measured: (Instant, Instant),
    arrivals: Option<Arrivals>,
    tally: RefCell<Tally>,
}

/// The arrivals of an open loop.
struct Arrivals {
    schedule: Schedule,
    /// One permit for each that is due and not yet taken; closed when no more come.
    due: Arc<Semaphore>,
    taken: Cell<u64>,
}

impl Group {
    fn new(load: Load) -> Result<Self, Failure> {
        let start = Instant::now();
        let begin = start + load.warm_up;
        let arrivals = load.arrivals.map(|rate| Arrivals {
            schedule: Schedule::per_second(rate),
            due: Arc::new(Semaphore::new(0)),
            taken: Cell::new(0),
        });
        let measured = (begin, begin + load.duration);
        Ok(Self { load, start, measured, arrivals, tally: RefCell::new(Tally::new()?) })
    }

    /// When the next call of a free caller is meant to start; None: no more.
    async fn next_start(&self) -> Option<Instant> {
        let Some(arrivals) = &self.arrivals else {
            let now = Instant::now();
            return (now < self.measured.1).then_some(now);
        };
        arrivals.due.acquire().await.ok()?.forget();
        let number = arrivals.taken.replace(arrivals.taken.get() + 1);
        Some(self.start + arrivals.schedule.due_at(number))
    }

    /// Lets arrivals come when they are due. A runtime's timer is too coarse for that: its millisecond
    /// would be most of what is measured.
    fn start_pacer(&self) -> Result<Option<std::thread::JoinHandle<()>>, Failure> {
        let Some(arrivals) = &self.arrivals else { return Ok(None) };
        let (schedule, due) = (arrivals.schedule, Arc::clone(&arrivals.due));
        let (start, end) = (self.start, self.measured.1);
        let pace = move || {
            let mut come = 0;
            loop {
                let now = Instant::now();
                if now >= end {
                    return due.close();
                }
                let due_now = schedule.due_by(now - start);
                due.add_permits(usize::try_from(due_now - come).unwrap_or(0));
                come = due_now;
                let next = start + schedule.due_at(come);
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()).max(SHORTEST_PAUSE));
            }
        };
        Ok(Some(std::thread::Builder::new().name("pacer".into()).spawn(pace)?))
    }

    /// Arrivals that no caller was free for count with the time that they have waited so far.
    fn charge_for_unserved(&self, tally: &mut Tally) {
        let Some(arrivals) = &self.arrivals else { return };
        let (begin, end) = self.measured;
        for number in arrivals.taken.get()..arrivals.schedule.due_by(end - self.start) {
            let due = self.start + arrivals.schedule.due_at(number);
            if due >= begin && due < end {
                tally.record(end - due);
                *tally.failures.entry("NOT_SENT".into()).or_default() += 1;
            }
        }
    }

    fn count(&self, intended: Instant, result: Result<wire::Answer, CallError>) -> Result<bool, Failure> {
        let now = Instant::now();
        let (begin, end) = self.measured;
        let answered_in_time = now >= begin && now < end;
        let mut tally = self.tally.borrow_mut();
        match result {
            Ok(answer) => {
                let execution = answer.execution.unwrap_or_default();
                tally.acknowledged += 1;
                if answered_in_time {
                    tally.successes += 1;
                    tally.attempts += u64::try_from(execution.attempts).unwrap_or(0);
                    // Strategies that know no batches leave the size out.
                    *tally.batches.entry(u32::try_from(execution.batch_size).unwrap_or(0).max(1)).or_default() += 1;
                }
                if intended >= begin && intended < end {
                    tally.record(now - intended);
                }
                Ok(true)
            }
            Err(CallError::Refused(status)) => {
                if !CERTAINLY_NOTHING.contains(&status.code()) {
                    tally.unknown += 1;
                }
                if answered_in_time {
                    let reason = status.get_details_error_info().map(|info| info.reason);
                    let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
                    *tally.failures.entry(reason).or_default() += 1;
                }
                Ok(false)
            }
            Err(CallError::Broken(why)) => Err(why.into()),
        }
    }
}

/// The RPCs that callers call.
struct Rpcs {
    reserve: Rpc,
    confirm: Rpc,
    cancel: Rpc,
}

/// One caller, with a message that it fills in again for each call.
struct Member {
    group: Rc<Group>,
    caller: Caller,
    random: fastrand::Rng,
    reserve: pb::ReserveRequest,
}

impl Member {
    fn new(group: Rc<Group>, caller: Caller, number: u32) -> Self {
        let options = pb::ExecutionOptions { strategy: group.load.strategy.into(), ..Default::default() };
        let reserve = pb::ReserveRequest { quantity: 1, options: Some(options), ..Default::default() };
        // Neighbouring seeds would begin alike: one draw sets them apart.
        let mut seeds = fastrand::Rng::with_seed(group.load.seed ^ (u64::from(number) << 16));
        let random = fastrand::Rng::with_seed(seeds.u64(..));
        Self { group, caller, random, reserve }
    }

    async fn live(mut self) -> Result<(), Failure> {
        let group = Rc::clone(&self.group);
        let server = group.load.server;
        let rpc = |name| Rpc::new(server, name);
        let rpcs = Rpcs { reserve: rpc("Reserve")?, confirm: rpc("Confirm")?, cancel: rpc("Cancel")? };
        while let Some(intended) = group.next_start().await {
            self.name_event_and_user()?;
            let answer = self.caller.call(&rpcs.reserve, &self.reserve).await;
            let reserved = group.count(intended, answer)?;
            if reserved && group.load.work == Work::Life {
                self.settle(&rpcs).await?;
            }
        }
        Ok(())
    }

    fn name_event_and_user(&mut self) -> Result<(), Failure> {
        let number = self.group.load.picker.pick(&mut self.random);
        let request = &mut self.reserve;
        request.event_id.clear();
        request.event_id.push_str(&event_id(number));
        request.user_id.clear();
        // Spread over the whole index of users, and never the same twice.
        write!(request.user_id, "user-{:016x}", self.random.u64(..) >> 1)?;
        if self.group.load.request_ids {
            request.request_id.clear();
            write!(request.request_id, "{:016x}", self.random.u64(..))?;
        }
        Ok(())
    }

    /// Confirms seven of ten holds, and cancels the others.
    async fn settle(&mut self, rpcs: &Rpcs) -> Result<(), Failure> {
        let selector = pb::reservation_selector::Selector::UserId(self.reserve.user_id.clone());
        let reservation = Some(pb::ReservationSelector { selector: Some(selector) });
        let (event_id, options) = (self.reserve.event_id.clone(), self.reserve.options);
        let request_id =
            if self.group.load.request_ids { format!("{:016x}", self.random.u64(..)) } else { String::new() };
        let begun = Instant::now();
        let answer = if self.random.u8(..10) < 7 {
            let request = pb::ConfirmRequest { event_id, reservation, options, request_id, ..Default::default() };
            self.caller.call(&rpcs.confirm, &request).await
        } else {
            let request = pb::CancelRequest { event_id, reservation, options, request_id, ..Default::default() };
            self.caller.call(&rpcs.cancel, &request).await
        };
        self.group.count(begun, answer).map(drop)
    }
}

#[cfg(test)]
mod tests;
