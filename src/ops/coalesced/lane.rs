//! A lane: a queue, and at most one task that empties it, batch by batch.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{Either, select},
};
use tokio::time::Instant;

use super::{
    Item,
    batch::{self, Batch, By, Carried, Finished},
    lock,
    memory::Memory,
    plan::Stage,
};
use crate::{
    config::{BatchScope, Execution, Strategy},
    domain::ids::EventId,
    ops::{Ledger, OpError, execute::Effort},
};

/// A queue of commands, and the events of its own whose rows others have locked.
pub(super) struct Lane {
    settings: Execution,
    state: Mutex<State>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    is_running: bool,
    /// Events that somebody else has locked: each has a queue, and a task that waits for its lock.
    busy: HashMap<EventId, VecDeque<Item>>,
    /// How long a batch takes, lately.
    pace: Duration,
}

impl State {
    fn waiting(&self) -> usize {
        self.queue.len() + self.busy.values().map(VecDeque::len).sum::<usize>()
    }

    /// Takes the commands of the next batch.
    fn take(&mut self, settings: &Execution) -> Vec<Item> {
        match settings.batch_scope {
            BatchScope::Any => {
                let size = self.queue.len().min(settings.max_batch);
                self.queue.drain(..size).collect()
            }
            BatchScope::Event => self.take_of_one_event(settings.max_batch),
        }
    }

    /// Takes the first command and those on the same event; the others keep their order.
    fn take_of_one_event(&mut self, most: usize) -> Vec<Item> {
        let Some(event_id) = self.queue.front().map(|item| item.command.event_id.clone()) else { return Vec::new() };
        let (mut taken, mut kept) = (Vec::new(), VecDeque::with_capacity(self.queue.len()));
        for item in self.queue.drain(..) {
            if taken.len() < most && item.command.event_id == event_id {
                taken.push(item);
            } else {
                kept.push_back(item);
            }
        }
        self.queue = kept;
        taken
    }

    /// How long a command that comes now will have to wait, if all goes on as it does.
    fn expected_wait(&self, max_batch: usize) -> Duration {
        let batches = self.waiting() / max_batch.max(1) + usize::from(self.is_running);
        self.pace * u32::try_from(batches).unwrap_or(u32::MAX)
    }
}

impl Lane {
    pub(super) fn new(settings: Execution) -> Self {
        let memory = Memory::new(settings.remembered_events.div_ceil(settings.lanes.max(1)));
        Self { settings, state: Mutex::default(), memory: Mutex::new(memory) }
    }

    /// Puts a command at the end of the queue; refuses where that is full, or so long that the
    /// command's time would be over before its turn.
    pub(super) fn submit(self: &Arc<Self>, ledger: &Ledger, item: Item) {
        let mut state = self.lock();
        if let Some(why) = self.refusal(&state, &item) {
            ledger.metrics.batch_shed.inc();
            return ledger.answer(item, &Effort::begun(Strategy::Coalesced), Err(OpError::Busy(why)));
        }
        ledger.metrics.batch_commands.inc();
        if let Some(queue) = state.busy.get_mut(&item.command.event_id) {
            return queue.push_back(item);
        }
        state.queue.push_back(item);
        if !state.is_running {
            state.is_running = true;
            ledger.tasks.spawn(Arc::clone(self).run(ledger.clone()));
        }
    }

    fn refusal(&self, state: &State, item: &Item) -> Option<&'static str> {
        if state.waiting() >= self.settings.max_queue {
            return Some("too many commands are waiting");
        }
        let turn = Instant::now() + state.expected_wait(self.settings.max_batch);
        (turn > item.deadline).then_some("the wait would be longer than the call's deadline")
    }

    /// Carries out what waits, until nothing does. While PostgreSQL writes a batch, the callers of the one
    /// before it are answered, and the one after it is read and decided: so it need not wait for us.
    async fn run(self: Arc<Self>, ledger: Ledger) {
        let (mut upcoming, mut finished, mut was_in_vain) = (None::<Batch>, None::<Finished>, false);
        while let Some(mut batch) = upcoming.take().or_else(|| self.next_batch()) {
            let began = Instant::now();
            let size = count(&batch.items);
            unharmed(batch.decide(&ledger, &self.memory).map(Some)).await;
            let trail = batch.trail();
            let mut following = self.take_waiting();
            let meanwhile = async {
                answer(&ledger, finished.take());
                let trail = trail.as_ref().filter(|_| !following.is_empty() && !was_in_vain)?;
                Some(Stage::ahead(&ledger, &self.memory, &following, trail).await)
            };
            let (mut carried, ahead) = {
                let (writing, meanwhile) = (pin!(guarded(&ledger, batch, By::Version)), pin!(unharmed(meanwhile)));
                let first = select(writing, meanwhile).await;
                match first {
                    Either::Right((ahead, writing)) => (writing.await, ahead),
                    Either::Left((mut carried, meanwhile)) => {
                        // Nobody waits for a reading that is for others.
                        answer(&ledger, carried.finished.take());
                        (carried, meanwhile.await)
                    }
                }
            };
            ledger.metrics.batch_commands.sub(size - count(&carried.left_out));
            self.keep_pace(began.elapsed());
            if let Some(trail) = trail {
                match carried.writing {
                    Some(written) => lock(&self.memory).learn(trail, &written),
                    None => lock(&self.memory).forget(trail),
                }
            }
            self.set_aside(&ledger, carried.left_out, &mut following);
            was_in_vain = ahead.as_ref().is_some_and(|stage| stage.is_none() || !carried.went_as_planned);
            let stage = ahead.flatten().filter(|_| carried.went_as_planned).unwrap_or_default();
            if stage.is_decided() {
                // It is sent first.
                finished = carried.finished.take();
            }
            answer(&ledger, carried.finished);
            upcoming = (!following.is_empty()).then(|| Batch::new(following, stage));
        }
    }

    /// Carries out what waits for one event that others have locked, until nothing does.
    async fn run_busy(self: Arc<Self>, ledger: Ledger, event_id: EventId) {
        while let Some(items) = self.next_busy_batch(&event_id) {
            let size = count(&items);
            // It waits for the lock, so it leaves nothing out.
            let carried = guarded(&ledger, Batch::new(items, Stage::Fresh), By::Lock).await;
            answer(&ledger, carried.finished);
            ledger.metrics.batch_commands.sub(size);
        }
    }

    /// The next batch. None: nothing waits, and the task that asks has ended.
    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        let items = state.take(&self.settings);
        state.is_running = !items.is_empty();
        state.is_running.then(|| Batch::new(items, Stage::Fresh))
    }

    fn take_waiting(&self) -> Vec<Item> {
        self.lock().take(&self.settings)
    }

    fn next_busy_batch(&self, event_id: &EventId) -> Option<Vec<Item>> {
        let mut state = self.lock();
        let queue = state.busy.get_mut(event_id)?;
        let size = queue.len().min(self.settings.max_batch);
        if size == 0 {
            state.busy.remove(event_id);
            return None;
        }
        Some(queue.drain(..size).collect())
    }

    /// Gives each event of these commands a queue and a task of its own. What came for it meanwhile
    /// follows, also from the batch that is `following`, so that its commands stay in the order in which
    /// they arrived.
    fn set_aside(self: &Arc<Self>, ledger: &Ledger, left: Vec<Item>, following: &mut Vec<Item>) {
        if left.is_empty() {
            return;
        }
        let mut state = self.lock();
        let mut fresh = Vec::new();
        for mut item in left {
            item.left_out += 1;
            let event_id = item.command.event_id.clone();
            if !state.busy.contains_key(&event_id) {
                fresh.push(event_id.clone());
            }
            state.busy.entry(event_id).or_default().push_back(item);
        }
        let State { queue, busy, .. } = &mut *state;
        let is_busy = |busy: &HashMap<_, _>, item: &Item| busy.contains_key(&item.command.event_id);
        let (later, kept) = std::mem::take(queue).into_iter().partition::<VecDeque<_>, _>(|item| is_busy(busy, item));
        *queue = kept;
        let sooner: Vec<_> = following.extract_if(.., |item| is_busy(busy, item)).collect();
        for item in sooner.into_iter().chain(later) {
            busy.entry(item.command.event_id.clone()).or_default().push_back(item);
        }
        for event_id in fresh {
            ledger.tasks.spawn(Arc::clone(self).run_busy(ledger.clone(), event_id));
        }
    }

    fn keep_pace(&self, took: Duration) {
        let mut state = self.lock();
        state.pace = (state.pace * 7 + took) / 8;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Carries a batch out. A panic ends the batch, and not the lane.
async fn guarded(ledger: &Ledger, batch: Batch, by: By) -> Carried {
    unharmed(async { Some(batch::carry_out(ledger, batch, by).await) }).await.unwrap_or_default()
}

/// Answers the callers of a batch, if there are any left to be answered. A panic does not end the lane.
fn answer(ledger: &Ledger, finished: Option<Finished>) {
    let Some(finished) = finished else { return };
    if catch_unwind(AssertUnwindSafe(|| finished.answer(ledger))).is_err() {
        tracing::error!("callers of a batch were not answered");
    }
}

/// None where the work panics: that is a defect, and ends with this batch.
async fn unharmed<T>(work: impl Future<Output = Option<T>>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a batch was lost");
        None
    })
}

fn count(items: &[Item]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}
