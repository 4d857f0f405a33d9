//! A lane: a queue, and at most one task that empties it, batch by batch.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Item,
    batch::{self, By},
};
use crate::{
    config::{BatchScope, Execution},
    domain::ids::EventId,
    ops::{Ledger, OpError},
};

/// A queue of commands, and the events of its own whose rows others have locked.
pub(super) struct Lane {
    settings: Execution,
    state: Mutex<State>,
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

    fn take_first(&mut self, most: usize) -> Vec<Item> {
        let size = self.queue.len().min(most);
        self.queue.drain(..size).collect()
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
        Self { settings, state: Mutex::default() }
    }

    /// Puts a command at the end of the queue; refuses where that is full, or so long that the
    /// command's time would be over before its turn.
    pub(super) fn submit(self: &Arc<Self>, ledger: &Ledger, item: Item) -> Result<(), OpError> {
        let mut state = self.lock();
        if let Some(why) = self.refusal(&state, &item) {
            ledger.metrics.batch_shed.inc();
            return Err(OpError::Busy(why));
        }
        ledger.metrics.batch_commands.inc();
        if let Some(queue) = state.busy.get_mut(&item.command.event_id) {
            queue.push_back(item);
            return Ok(());
        }
        state.queue.push_back(item);
        if !state.is_running {
            state.is_running = true;
            ledger.tasks.spawn(Arc::clone(self).run(ledger.clone()));
        }
        Ok(())
    }

    fn refusal(&self, state: &State, item: &Item) -> Option<&'static str> {
        if state.waiting() >= self.settings.max_queue {
            return Some("too many commands are waiting");
        }
        let turn = Instant::now() + state.expected_wait(self.settings.max_batch);
        (turn > item.deadline).then_some("the wait would be longer than the call's deadline")
    }

    /// Carries out what waits, until nothing does.
    async fn run(self: Arc<Self>, ledger: Ledger) {
        while let Some(items) = self.next_batch() {
            let began = Instant::now();
            let size = count(&items);
            let left = guarded(&ledger, items, By::Version).await;
            ledger.metrics.batch_commands.sub(size - count(&left));
            self.keep_pace(began.elapsed());
            self.set_aside(&ledger, left);
        }
    }

    /// Carries out what waits for one event that others have locked, until nothing does.
    async fn run_busy(self: Arc<Self>, ledger: Ledger, event_id: EventId) {
        while let Some(items) = self.next_busy_batch(&event_id) {
            let size = count(&items);
            // It waits for the lock, so it leaves nothing out.
            guarded(&ledger, items, By::Lock).await;
            ledger.metrics.batch_commands.sub(size);
        }
    }

    fn next_batch(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        let items = match self.settings.batch_scope {
            BatchScope::Any => state.take_first(self.settings.max_batch),
            BatchScope::Event => state.take_of_one_event(self.settings.max_batch),
        };
        if items.is_empty() {
            state.is_running = false;
            return None;
        }
        Some(items)
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
    /// follows, so that its commands stay in the order in which they arrived.
    fn set_aside(self: &Arc<Self>, ledger: &Ledger, left: Vec<Item>) {
        if left.is_empty() {
            return;
        }
        let mut state = self.lock();
        let mut fresh = Vec::new();
        for item in left {
            let event_id = item.command.event_id.clone();
            if !state.busy.contains_key(&event_id) {
                fresh.push(event_id.clone());
            }
            state.busy.entry(event_id).or_default().push_back(item);
        }
        for item in std::mem::take(&mut state.queue) {
            match state.busy.get_mut(&item.command.event_id) {
                Some(queue) => queue.push_back(item),
                None => state.queue.push_back(item),
            }
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries a batch out in a task of its own: a panic ends the batch, and not the lane.
async fn guarded(ledger: &Ledger, items: Vec<Item>, by: By) -> Vec<Item> {
    let worker = ledger.clone();
    let batch = ledger.tasks.spawn(async move { batch::carry_out(&worker, items, by).await });
    batch.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a batch was lost");
        Vec::new()
    })
}

fn count(items: &[Item]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}
