//! Where callers wait for each other: the events with the most waiting, conflicts and retries lately.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::execute::Effort;
use crate::{
    config::Strategy,
    domain::{
        contention::{Advice, Load, advise},
        ids::EventId,
    },
};

/// The time that is counted together.
const SLOT: Duration = Duration::from_secs(5);
/// How many slots are kept: ten minutes.
const SLOTS: usize = 120;
/// Events told apart in one slot. Of more, those that come first are; a hot event is among them.
const MAX_EVENTS: usize = 4096;

/// How the commands of one event fared under one strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that ended.
    pub commands: u64,
    /// Attempts that met another version than they had read.
    pub conflicts: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Time spent on waiting for a turn or a lock: in all, and by one command at the most.
    pub waited: (Duration, Duration),
    /// Sizes of the batches that the commands were in: the sum, and the largest.
    pub batch_size: (u64, u32),
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.conflicts += other.conflicts;
        self.retries += other.retries;
        self.waited = (self.waited.0 + other.waited.0, self.waited.1.max(other.waited.1));
        self.batch_size = (self.batch_size.0 + other.batch_size.0, self.batch_size.1.max(other.batch_size.1));
    }
}

/// One event of a report.
#[derive(Clone, Debug)]
pub struct EventContention {
    /// The event.
    pub event_id: EventId,
    /// How its commands fared, by strategy.
    pub by_strategy: Vec<(Strategy, Tally)>,
    /// The strategy that would have served it best.
    pub advice: Advice,
}

type Slot = HashMap<EventId, HashMap<Strategy, Tally>>;

/// Keeps count of the last ten minutes.
pub(super) struct Contention {
    began: Instant,
    /// The newest last; with the number of each since the beginning.
    slots: Mutex<VecDeque<(u64, Slot)>>,
}

impl Contention {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), slots: Mutex::default() }
    }

    /// Counts a command that has ended.
    pub(super) fn note(&self, event_id: &EventId, effort: &Effort) {
        let tally = Tally {
            commands: 1,
            conflicts: effort.conflicts.into(),
            retries: effort.attempts.saturating_sub(1).into(),
            waited: (effort.waited(), effort.waited()),
            batch_size: (effort.batch_size.into(), effort.batch_size),
        };
        let number = self.slot_number();
        let mut slots = self.lock();
        if slots.back().is_none_or(|(newest, _)| *newest < number) {
            slots.push_back((number, Slot::new()));
            while slots.len() > SLOTS {
                slots.pop_front();
            }
        }
        let Some((_, slot)) = slots.back_mut() else { return };
        if let Some(strategies) = slot.get_mut(event_id) {
            strategies.entry(effort.strategy).or_default().add(&tally);
        } else if slot.len() < MAX_EVENTS {
            slot.insert(event_id.clone(), HashMap::from([(effort.strategy, tally)]));
        }
    }

    /// The `limit` events on which most time was waited in the last `window`, then those with most
    /// conflicts.
    pub(super) fn report(&self, window: Duration, limit: usize) -> Vec<EventContention> {
        let slots_back = u64::try_from(window.as_nanos().div_ceil(SLOT.as_nanos())).unwrap_or(u64::MAX);
        let oldest = self.slot_number().saturating_sub(slots_back);
        let mut events = Slot::new();
        for (_, slot) in self.lock().iter().filter(|(number, _)| *number >= oldest) {
            for (event_id, strategies) in slot {
                let sums = events.entry(event_id.clone()).or_default();
                strategies.iter().for_each(|(strategy, tally)| sums.entry(*strategy).or_default().add(tally));
            }
        }
        let mut ranked: Vec<_> = events.into_iter().map(|(id, tallies)| (load(&tallies), id, tallies)).collect();
        ranked.sort_by(|(a, a_id, _), (b, b_id, _)| {
            (b.waiting, b.conflicts, b.commands, a_id).cmp(&(a.waiting, a.conflicts, a.commands, b_id))
        });
        ranked.truncate(limit);
        let told = |(load, event_id, tallies): (Load, EventId, HashMap<Strategy, Tally>)| {
            let mut by_strategy: Vec<_> = tallies.into_iter().collect();
            by_strategy.sort_by_key(|(strategy, _)| strategy.name());
            EventContention { event_id, by_strategy, advice: advise(load, window) }
        };
        ranked.into_iter().map(told).collect()
    }

    fn slot_number(&self) -> u64 {
        self.began.elapsed().as_secs() / SLOT.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Slot)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(tallies: &HashMap<Strategy, Tally>) -> Load {
    let mut load = Load::default();
    for tally in tallies.values() {
        load.commands += tally.commands;
        load.conflicts += tally.conflicts;
        load.waiting += tally.waited.0;
    }
    load
}
