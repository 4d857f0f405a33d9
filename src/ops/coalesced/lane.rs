//! A lane: a queue, and at most one task that empties it, batch by batch.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Item,
    batch::{self, Busy},
};
use crate::{
    config::Execution,
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
        if state.waiting() >= self.settings.max_queue {
            return Err(OpError::Busy("too many commands are waiting"));
        }
        if Instant::now() + state.expected_wait(self.settings.max_batch) > item.deadline {
            return Err(OpError::Busy("the wait would be longer than the call's deadline"));
        }
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

    /// Carries out what waits, until nothing does.
    async fn run(self: Arc<Self>, ledger: Ledger) {
        while let Some(items) = self.next_batch() {
            let began = Instant::now();
            let left = batch::carry_out(&ledger, items, Busy::LeaveOut).await;
            self.keep_pace(began.elapsed());
            self.set_aside(&ledger, left);
        }
    }

    /// Carries out what waits for one event that others have locked, until nothing does.
    async fn run_busy(self: Arc<Self>, ledger: Ledger, event_id: EventId) {
        while let Some(items) = self.next_busy_batch(&event_id) {
            // It waits for the lock, so it leaves nothing out.
            batch::carry_out(&ledger, items, Busy::WaitFor).await;
        }
    }

    fn next_batch(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        let size = state.queue.len().min(self.settings.max_batch);
        if size == 0 {
            state.is_running = false;
            return None;
        }
        Some(state.queue.drain(..size).collect())
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
