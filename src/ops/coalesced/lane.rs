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
    poll,
};
use tokio::{sync::Notify, time::Instant};

use super::{
    Item,
    batch::{self, Batch, By, Carried, Finished},
    books::Trail,
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
    /// Somebody has come, and the lane wanted to be told.
    arrivals: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    is_running: bool,
    /// Events that somebody else has locked: each has a queue, and a task that waits for its lock.
    busy: HashMap<EventId, VecDeque<Item>>,
    /// How many have left the queue for the batch that is not yet sent.
    planned: usize,
    /// Whether the lane wants to be told when somebody comes.
    is_watched: bool,
    /// How long a batch takes, lately.
    pace: Duration,
}

/// The batch that is decided while another is written.
#[derive(Default)]
struct Next {
    items: Vec<Item>,
    stage: Stage,
    /// Whether more can be taken in.
    is_open: bool,
    /// Whether it was read for in vain.
    was_in_vain: bool,
}

impl State {
    fn waiting(&self) -> usize {
        self.queue.len() + self.planned + self.busy.values().map(VecDeque::len).sum::<usize>()
    }

    /// Takes commands for the next batch, of which some are `taken` already.
    fn take(&mut self, settings: &Execution, taken: &[Item]) -> Vec<Item> {
        let most = settings.max_batch.saturating_sub(taken.len());
        match settings.batch_scope {
            BatchScope::Any => self.queue.drain(..self.queue.len().min(most)).collect(),
            BatchScope::Event => {
                let first = taken.first().or(self.queue.front()).map(|item| item.command.event_id.clone());
                first.map_or_else(Vec::new, |event_id| self.take_of_one_event(&event_id, most))
            }
        }
    }

    /// Takes commands on this event; the others keep their order.
    fn take_of_one_event(&mut self, event_id: &EventId, most: usize) -> Vec<Item> {
        let (mut taken, mut kept) = (Vec::new(), VecDeque::with_capacity(self.queue.len()));
        for item in self.queue.drain(..) {
            if taken.len() < most && item.command.event_id == *event_id {
                taken.push(item);
            } else {
                kept.push_back(item);
            }
        }
        self.queue = kept;
        taken
    }

    /// Puts what was taken last back to where it was, to be taken again later.
    fn give_back(&mut self, items: Vec<Item>) {
        self.planned -= items.len();
        for item in items.into_iter().rev() {
            self.queue.push_front(item);
        }
    }

    /// What was planned is sent.
    fn begin(&mut self) {
        (self.planned, self.is_watched) = (0, false);
    }

    /// How long a command that comes now will have to wait, if all goes on as it does.
    fn expected_wait(&self, max_batch: usize) -> Duration {
        let batches = self.waiting() / max_batch.max(1) + usize::from(self.is_running);
        self.pace * u32::try_from(batches).unwrap_or(u32::MAX)
    }
}

impl Lane {
    pub(super) fn new(settings: Execution) -> Self {
        let memory = Memory::new(settings.cached_events.div_ceil(settings.lanes.max(1)));
        Self { settings, state: Mutex::default(), memory: Mutex::new(memory), arrivals: Notify::new() }
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
        if std::mem::take(&mut state.is_watched) {
            self.arrivals.notify_one();
        }
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

    /// Carries out what waits, until nothing does.
    async fn run(self: Arc<Self>, ledger: Ledger) {
        let (mut upcoming, mut finished, mut was_in_vain) = (None::<Batch>, None::<Finished>, false);
        while let Some(mut batch) = upcoming.take().or_else(|| self.next_batch()) {
            let began = Instant::now();
            let size = count(&batch.items);
            unharmed(batch.plan(&ledger, &self.memory).map(Some)).await;
            let trail = batch.trail();
            let mut next = Next { is_open: trail.is_some() && !was_in_vain, ..Next::default() };
            let mut carried = self.write(&ledger, batch, trail.as_ref(), finished.take(), &mut next).await;
            ledger.metrics.batch_commands.sub(size - count(&carried.left_out));
            self.keep_pace(began.elapsed());
            if let Some(trail) = trail {
                match carried.writing {
                    Some(written) => lock(&self.memory).learn(trail, &written),
                    None => lock(&self.memory).forget(trail),
                }
            }
            self.set_aside(&ledger, carried.left_out, &mut next.items);
            was_in_vain = next.was_in_vain || !(next.items.is_empty() || carried.went_as_planned);
            let stage = Some(next.stage).filter(|_| carried.went_as_planned).unwrap_or_default();
            if stage.is_decided() {
                // It is sent first.
                finished = carried.finished.take();
            }
            answer(&ledger, carried.finished);
            upcoming = (!next.items.is_empty()).then(|| Batch::new(next.items, stage));
            self.lock().begin();
        }
    }

    /// Writes a batch. While PostgreSQL does, the callers of the one before are answered, and the one after it
    /// is decided, command by command as they come: so it need not wait for us, and whoever comes waits for
    /// one batch, and not for two.
    async fn write(
        &self,
        ledger: &Ledger,
        batch: Batch,
        trail: Option<&Trail>,
        mut before: Option<Finished>,
        next: &mut Next,
    ) -> Carried {
        let mut writing = pin!(guarded(ledger, batch, By::Version));
        loop {
            let planning = async {
                answer(ledger, before.take());
                if let Some(ahead) = trail {
                    self.plan_ahead(ledger, ahead, next).await;
                }
                Some(())
            };
            let mut planning = pin!(unharmed(planning));
            if let Either::Left((mut carried, _)) = select(&mut writing, &mut planning).await {
                if poll!(&mut planning).is_pending() {
                    // Nobody waits for a reading that is for others.
                    answer(ledger, carried.finished.take());
                    planning.await;
                }
                return carried;
            }
            if let Either::Left((carried, _)) = select(&mut writing, pin!(self.arrivals.notified())).await {
                return carried;
            }
        }
    }

    /// Decides what waits behind the batch `ahead`, as far as that can be done now.
    async fn plan_ahead(&self, ledger: &Ledger, ahead: &Trail, next: &mut Next) {
        while next.is_open {
            let taken = self.take_behind(&next.items);
            if taken.is_empty() {
                return;
            }
            // Should this fail, nothing is decided, and nobody else is taken in.
            next.is_open = false;
            let stage = std::mem::take(&mut next.stage);
            if next.items.is_empty() {
                next.items = taken;
                let stage = Stage::ahead(ledger, &self.memory, &next.items, ahead).await;
                next.was_in_vain = stage.is_none();
                next.stage = stage.unwrap_or_default();
                next.is_open = next.stage.is_decided();
            } else {
                (next.stage, next.is_open) = self.take_in(ledger, taken, stage, &mut next.items, ahead);
            }
        }
    }

    /// Takes in those that need no reading, up to the first that does: from there on all go on waiting.
    fn take_in(
        &self,
        ledger: &Ledger,
        taken: Vec<Item>,
        mut stage: Stage,
        items: &mut Vec<Item>,
        ahead: &Trail,
    ) -> (Stage, bool) {
        let mut taken = taken.into_iter();
        while let Some(item) = taken.next() {
            if stage.takes_in(ledger, &self.memory, &item, ahead) {
                items.push(item);
            } else {
                self.lock().give_back(std::iter::once(item).chain(taken).collect());
                return (stage, false);
            }
        }
        (stage, true)
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
        let items = state.take(&self.settings, &[]);
        state.is_running = !items.is_empty();
        state.is_running.then(|| Batch::new(items, Stage::Fresh))
    }

    /// What waits and goes with these that were taken for the next batch. Whoever comes after that tells.
    fn take_behind(&self, items: &[Item]) -> Vec<Item> {
        let mut state = self.lock();
        let taken = state.take(&self.settings, items);
        state.planned += taken.len();
        state.is_watched = taken.is_empty() && items.len() < self.settings.max_batch;
        taken
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

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::reserve, *};
    use crate::config::Config;

    fn settings(batch_scope: BatchScope) -> Execution {
        let defaults = Config::load(None, &Vec::new()).expect("the defaults are right");
        Execution { max_batch: 3, batch_scope, ..defaults.execution }
    }

    fn waiting(event_ids: &[&str]) -> State {
        let queue = event_ids.iter().enumerate().map(|(number, id)| reserve(id, &format!("user-{number}"))).collect();
        State { queue, ..State::default() }
    }

    fn events<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<String> {
        items.into_iter().map(|item| item.command.event_id.to_string()).collect()
    }

    #[test]
    fn a_batch_is_filled_up_in_the_order_of_arrival() {
        let mut state = waiting(&["a", "b", "a", "c"]);
        let mut taken = state.take(&settings(BatchScope::Any), &[]);
        assert_eq!(events(&taken), ["a", "b", "a"]);
        assert!(state.take(&settings(BatchScope::Any), &taken).is_empty(), "it is full");
        taken.truncate(1);
        assert_eq!(events(&state.take(&settings(BatchScope::Any), &taken)), ["c"]);
    }

    #[test]
    fn a_batch_of_one_event_is_filled_up_with_that_event() {
        let mut state = waiting(&["a", "b", "a"]);
        let taken = state.take(&settings(BatchScope::Event), &[]);
        assert_eq!(events(&taken), ["a", "a"]);
        assert!(state.take(&settings(BatchScope::Event), &taken).is_empty(), "the other event goes on waiting");
        state.queue.push_back(reserve("a", "late"));
        assert_eq!(events(&state.take(&settings(BatchScope::Event), &taken)), ["a"]);
    }

    #[test]
    fn what_is_planned_still_waits_and_what_was_given_back_is_the_first_again() {
        let lane = Lane::new(settings(BatchScope::Any));
        *lane.lock() = waiting(&["a", "b", "c", "d"]);
        let mut taken = lane.take_behind(&[]);
        let mut state = lane.lock();
        assert_eq!((taken.len(), state.waiting()), (3, 4));
        state.give_back(taken.split_off(1));
        assert_eq!((events(&state.queue).join(" "), state.waiting()), ("b c d".into(), 4));
        state.begin();
        assert_eq!(state.waiting(), 3);
    }
}
