//! COALESCED: a queue that makes batches.
//!
//! ```text
//!  submit --> waiting --> read ------> decided --> written --> replies
//!                |      (or cached)       ^            |
//!                |                        +-- joins    | an event that others have locked or changed
//!                +--> contended: a queue for each event, under its row lock <--+
//! ```
//!
//! Events are spread over a few lanes by hash. A [`lane`] takes what waits, up to a bound, and executes it in one
//! transaction; commands that arrive while a batch is being written join the next batch until it is sent. There is no
//! timer: at low load a batch is one command, and runs at once.
//!
//! A batch is decided before it is written: what its commands need is read without locks, and they are decided one after
//! the other in memory. Then one statement is the whole transaction: it locks the events in the order of their ids, passes
//! over those that others have locked or changed, writes the rest, and commits. The row lock is held while that statement
//! runs, and not while an answer travels. A Reserve on an event that the lane has cached is not even read for
//! ([`event_cache`](super::event_cache)): it is speculative, and the statement checks what it assumes.
//!
//! While a batch is written, the one before it is replied to, and the next one is decided as if the first were written
//! already: the effects of the first are overlaid on what is read or cached
//! ([`working_set`](super::working_set)). So PostgreSQL finds a batch ready when it is done with one. If the first is not
//! written as planned, what was decided upon it is void, and no caller has heard of it.
//!
//! So a batch never waits for a row lock. An event that it passes over leaves it and gets a queue of its own, which works
//! under the row lock (lock, read, decide, write, commit), waits for that lock only, and ends when it is empty. No batch
//! holds a lock while it waits for another, a command waits only for others of its event, and servers that want the same
//! event take turns.
//!
//! The [`lane`] is a pure state machine with one transition function; the code here does what it says. What happens in
//! which order is explored by the simulation beside it.

mod lane;
mod speculation;
mod waiting;

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures::{
    FutureExt,
    future::{Either, select},
    poll,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    Answer,
    attempt::{Mode, asked, latest},
    database::{Conn, Database},
    retry::{Batch, BatchResult, Executed, Replies, run},
    unit::{Atomicity, BY_VERSION, ConcurrencyControl, Job, Reply},
    working_set::Draft,
};
use crate::{
    config::{Execution, Strategy},
    domain::{command::Command, ids::EventId},
    ops::{
        OpError,
        env::Env,
        permit::{self, Permit},
        stats::ExecStats,
    },
    store::{Context, LockWait},
};
use lane::{Input, Lane, Reading, Step};

/// A command in the queue.
pub(super) struct Item {
    command: Command,
    submitted: Instant,
    deadline: Instant,
    /// How many batches had to divert it.
    diverted: u32,
    is_unsure: bool,
    answer: oneshot::Sender<Result<Answer, OpError>>,
    /// Kept until it is answered, whether or not the caller goes on waiting.
    _permit: Option<Permit>,
}

/// It is large, and moves from queue to queue.
type BoxedItem = Box<Item>;

impl Job for BoxedItem {
    fn command(&self) -> &Command {
        &self.command
    }

    fn submitted(&self) -> Instant {
        self.submitted
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    fn make_unsure(&mut self) {
        self.is_unsure = true;
    }
}

/// The lanes. Clones share them.
#[derive(Clone)]
pub(in crate::ops) struct Queue {
    lanes: Arc<[LaneOfItems]>,
    hasher: RandomState,
}

/// A lane, and the news for its writer that commands have come.
struct LaneOfItems {
    state: Mutex<Lane<BoxedItem>>,
    arrivals: Notify,
}

impl LaneOfItems {
    fn new(settings: Execution) -> Self {
        Self { state: Mutex::new(Lane::new(settings)), arrivals: Notify::new() }
    }
}

/// What is sent to the database.
enum Io {
    Read(Reading<BoxedItem>),
    Write(Vec<BoxedItem>, Option<Draft>),
    RunContended(EventId, Vec<BoxedItem>),
}

impl Queue {
    pub(in crate::ops) fn new(settings: Execution) -> Self {
        let lanes = (0..settings.lanes.max(1)).map(|_| LaneOfItems::new(settings)).collect();
        Self { lanes, hasher: RandomState::new() }
    }

    /// Whether nothing waits, is read for or written.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.state.lock().is_idle())
    }

    /// Puts the command into its lane and waits for the answer. Once it is there it is executed, whether or not the
    /// caller goes on waiting.
    pub(in crate::ops) async fn execute<D: Database>(
        &self,
        env: &Env<D>,
        command: Command,
        deadline: Instant,
    ) -> Result<Answer, OpError> {
        let (answer, answered) = oneshot::channel();
        let hash = self.hasher.hash_one(&command.event_id);
        let lane = usize::try_from(hash % self.lanes.len() as u64).unwrap_or(0);
        let (submitted, diverted, is_unsure) = (Instant::now(), 0, false);
        let item =
            Box::new(Item { command, submitted, deadline, diverted, is_unsure, answer, _permit: permit::held() });
        env.metrics.batch_commands.inc();
        let driver = Driver { queue: self.clone(), lane, env: env.clone() };
        let steps = driver.transition(Input::Submit(item));
        if steps.is_empty() {
            self.lanes[lane].arrivals.notify_one();
        }
        for io in driver.start(steps, &mut Vec::new()) {
            driver.spawn(io);
        }
        answered.await.unwrap_or(Err(OpError::Lost))
    }
}

/// Does what a lane says.
#[derive(Clone)]
struct Driver<D> {
    queue: Queue,
    lane: usize,
    env: Env<D>,
}

impl<D: Database> Driver<D> {
    fn transition(&self, input: Input<BoxedItem>) -> Vec<Step<BoxedItem>> {
        let connections = self.env.database.connections_made();
        self.queue.lanes[self.lane].state.lock().transition(input, connections, Instant::now())
    }

    /// Splits what is to be done: what goes to the database, and what can be replied to once that is on its way.
    fn start(&self, steps: Vec<Step<BoxedItem>>, executed: &mut Vec<Executed<BoxedItem>>) -> Vec<Io> {
        let mut ios = Vec::new();
        for step in steps {
            match step {
                Step::Read(reading) => ios.push(Io::Read(reading)),
                Step::Write(items, draft) => ios.push(Io::Write(items, draft)),
                Step::RunContended(event_id, items) => ios.push(Io::RunContended(event_id, items)),
                Step::Reply(done) => executed.push(done),
                Step::Refuse(item, why) => {
                    self.env.metrics.batch_shed.inc();
                    let stats = ExecStats::begun(Strategy::Coalesced);
                    self.answer(item, Err(OpError::Busy(why)), &stats);
                }
            }
        }
        ios
    }

    fn spawn(&self, io: Io) {
        self.env.tasks.spawn(self.clone().drive(io, Vec::new()));
    }

    /// Sends something to the database, and goes on with what that leads to until nothing does.
    async fn drive(mut self, io: Io, mut executed: Vec<Executed<BoxedItem>>) {
        let mut next = Some(io);
        while let Some(io) = next.take() {
            let is_write = matches!(io, Io::Write(..));
            let mut sending = Box::pin(self.clone().send(io));
            let sent = poll!(&mut sending);
            // It is on its way: while PostgreSQL works, the batch before is replied to, and the next one decided.
            executed.drain(..).for_each(|done| done.reply(&mut self));
            let input = match sent {
                Poll::Ready(input) => input,
                Poll::Pending if is_write => self.decide_meanwhile(sending).await,
                Poll::Pending => sending.await,
            };
            let steps = self.transition(input);
            let mut ios = self.start(steps, &mut executed).into_iter();
            next = ios.next();
            ios.for_each(|io| self.spawn(io));
        }
        executed.drain(..).for_each(|done| done.reply(&mut self));
    }

    /// Until a write has ended, decides what comes behind it. The write comes first: as soon as it has ended, the next
    /// batch is sent as it is.
    async fn decide_meanwhile(
        &self,
        mut sending: Pin<Box<impl Future<Output = Input<BoxedItem>>>>,
    ) -> Input<BoxedItem> {
        loop {
            let steps = self.transition(Input::Sent);
            self.start(steps, &mut Vec::new()).into_iter().for_each(|io| self.spawn(io));
            let arrived = pin!(self.queue.lanes[self.lane].arrivals.notified());
            if let Either::Left((input, _)) = select(&mut sending, arrived).await {
                return input;
            }
        }
    }

    /// Does one thing on the database. A panic ends the batch, and not the lane.
    async fn send(mut self, io: Io) -> Input<BoxedItem> {
        match io {
            Io::Read(reading) => {
                let context = caught(self.read(&reading)).await.flatten();
                Input::Read(reading, context)
            }
            Io::Write(items, draft) => {
                self.env.metrics.batch_speculative.inc_by(draft.as_ref().map_or(0, Draft::speculations));
                Input::Written(self.run(items, draft, BY_VERSION).await)
            }
            Io::RunContended(event_id, items) => {
                let under_lock = ConcurrencyControl::RowLock(LockWait::Wait);
                Input::ContendedDone(event_id, self.run(items, None, under_lock).await)
            }
        }
    }

    async fn run(
        &mut self,
        items: Vec<BoxedItem>,
        draft: Option<Draft>,
        control: ConcurrencyControl,
    ) -> BatchResult<BoxedItem> {
        let max_lock_wait = self.env.settings.max_lock_wait;
        let atomicity = Atomicity::EachEvent;
        let mode = Mode { control, atomicity, is_dry_run: false, is_explained: false, max_lock_wait };
        let batch = Batch { jobs: items, draft, began: Instant::now() };
        let env = self.env.clone();
        let result = caught(run(&env, batch, &mode, Strategy::Coalesced, self)).await;
        let mut result = result.unwrap_or_else(BatchResult::lost);
        result.diverted.iter_mut().for_each(|(item, _)| item.diverted += 1);
        result
    }

    /// Reads for a batch. None: that failed, and the batch meets the failure again when it is executed.
    async fn read(&self, reading: &Reading<BoxedItem>) -> Option<Context> {
        let (asked, deadline) = (asked(&reading.jobs), latest(&reading.jobs));
        let database = &self.env.database;
        let read = async {
            let mut conn = database.autocommit(asked, deadline).await?;
            let context = conn.read(&reading.commands()).await;
            conn.end(context, false).await
        };
        timeout_at(deadline, read).await.ok()?.inspect_err(|error| database.note(error)).ok()
    }

    /// Answers the command's caller. One that no longer listens finds the answer by its request_id.
    fn answer(&self, item: BoxedItem, reply: Reply, stats: &ExecStats) {
        self.env.metrics.batch_commands.dec();
        self.env.count(&item.command, stats, reply.as_ref().map(|(_, replayed)| *replayed));
        let answer = reply.map(|(change, replayed)| Answer { change, replayed, stats: *stats });
        let _ = item.answer.send(answer);
    }
}

impl<D: Database> Replies<BoxedItem> for Driver<D> {
    fn reply(&mut self, item: BoxedItem, reply: Reply, stats: ExecStats, began: Instant) {
        let queue_wait = began.saturating_duration_since(item.submitted);
        let stats = ExecStats { attempts: stats.attempts + item.diverted, queue_wait, ..stats };
        if reply.is_ok() {
            self.env.metrics.batch_wait_seconds.observe(queue_wait.as_secs_f64());
        }
        self.answer(item, reply, &stats);
    }
}

/// None where the work panics: that is a defect, and ends with this batch.
async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.inspect_err(|_| tracing::error!("a batch was lost")).ok()
}
