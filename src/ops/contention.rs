//! The contention report: the events with the most waiting, conflicts and retries lately.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::stats::ExecStats;
use crate::{
    config::Strategy,
    domain::{
        contention::{Advice, Load, advise},
        ids::EventId,
    },
};

/// The length of a slot, whose commands are counted together.
const SLOT: Duration = Duration::from_secs(5);
/// How many slots are kept: ten minutes.
const SLOTS: usize = 120;
/// The most events counted in the current slot. Of more, those that come first are counted; a hot event is among them.
const MAX_EVENTS: usize = 4096;
/// The most events kept of a past slot: those that come first in a report. All of them could take two hundred
/// megabytes.
const KEPT_EVENTS: usize = 256;

/// The counts of one event's commands under one strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that ended.
    pub commands: u64,
    /// Attempts that found another version than they had read.
    pub conflicts: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Time spent waiting for a turn or a lock: in all, and by one command at the most.
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
    /// The counts of its commands, by strategy.
    pub by_strategy: Vec<(Strategy, Tally)>,
    /// The strategy that would have served it best.
    pub advice: Advice,
}

/// The counts of one event's commands, by strategy.
#[derive(Clone, Debug, Default)]
struct Tallies(Vec<(Strategy, Tally)>);

impl Tallies {
    fn add(&mut self, strategy: Strategy, tally: &Tally) {
        match self.0.iter_mut().find(|(known, _)| *known == strategy) {
            Some((_, sum)) => sum.add(tally),
            None => self.0.push((strategy, *tally)),
        }
    }

    fn load(&self) -> Load {
        let mut load = Load::default();
        for (_, tally) in &self.0 {
            load.commands += tally.commands;
            load.conflicts += tally.conflicts;
            load.waiting += tally.waited.0;
        }
        load
    }
}

type Slot = HashMap<EventId, Tallies>;

/// The `limit` events with the most time spent waiting, then those with the most conflicts.
fn ranked(slot: Slot, limit: usize) -> Vec<(Load, EventId, Tallies)> {
    let mut ranked: Vec<_> = slot.into_iter().map(|(id, tallies)| (tallies.load(), id, tallies)).collect();
    ranked.sort_by(|(a, a_id, _), (b, b_id, _)| {
        (b.waiting, b.conflicts, b.commands, a_id).cmp(&(a.waiting, a.conflicts, a.commands, b_id))
    });
    ranked.truncate(limit);
    ranked
}

/// The last slots, the newest last; with the number of each since the beginning.
#[derive(Default)]
struct Slots(VecDeque<(u64, Slot)>);

impl Slots {
    fn note(&mut self, number: u64, event_id: &EventId, strategy: Strategy, tally: &Tally) {
        if self.0.back().is_none_or(|(newest, _)| *newest < number) {
            self.close();
            self.0.push_back((number, Slot::new()));
            while self.0.len() > SLOTS {
                self.0.pop_front();
            }
        }
        let Some((_, slot)) = self.0.back_mut() else { return };
        if let Some(tallies) = slot.get_mut(event_id) {
            tallies.add(strategy, tally);
        } else if slot.len() < MAX_EVENTS {
            slot.insert(event_id.clone(), Tallies(vec![(strategy, *tally)]));
        }
    }

    /// Cuts the newest slot down to the events that a report shows.
    fn close(&mut self) {
        let Some((_, slot)) = self.0.back_mut() else { return };
        if slot.len() > KEPT_EVENTS {
            let kept = ranked(std::mem::take(slot), KEPT_EVENTS);
            *slot = kept.into_iter().map(|(_, id, tallies)| (id, tallies)).collect();
        }
    }

    /// The sums of all slots from this one on.
    fn since(&self, oldest: u64) -> Slot {
        let mut events = Slot::new();
        for (_, slot) in self.0.iter().filter(|(number, _)| *number >= oldest) {
            for (event_id, tallies) in slot {
                let sums = events.entry(event_id.clone()).or_default();
                tallies.0.iter().for_each(|(strategy, tally)| sums.add(*strategy, tally));
            }
        }
        events
    }
}

/// Counts over the last ten minutes.
pub(super) struct Contention {
    began: Instant,
    slots: Mutex<Slots>,
}

impl Contention {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), slots: Mutex::default() }
    }

    /// Counts a command that has ended.
    pub(super) fn note(&self, event_id: &EventId, effort: &ExecStats) {
        let tally = Tally {
            commands: 1,
            conflicts: effort.conflicts.into(),
            retries: effort.attempts.saturating_sub(1).into(),
            waited: (effort.waited(), effort.waited()),
            batch_size: (effort.batch_size.into(), effort.batch_size),
        };
        self.lock().note(self.slot_number(), event_id, effort.strategy, &tally);
    }

    /// The `limit` events with the most time spent waiting in the last `window`, then those with the most conflicts.
    pub(super) fn report(&self, window: Duration, limit: usize) -> Vec<EventContention> {
        let slots_back = u64::try_from(window.as_nanos().div_ceil(SLOT.as_nanos())).unwrap_or(u64::MAX);
        let events = self.lock().since(self.slot_number().saturating_sub(slots_back));
        let told = |(load, event_id, tallies): (Load, EventId, Tallies)| {
            let mut by_strategy = tallies.0;
            by_strategy.sort_by_key(|(strategy, _)| strategy.name());
            EventContention { event_id, by_strategy, advice: advise(load, window) }
        };
        ranked(events, limit).into_iter().map(told).collect()
    }

    fn slot_number(&self) -> u64 {
        self.began.elapsed().as_secs() / SLOT.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
