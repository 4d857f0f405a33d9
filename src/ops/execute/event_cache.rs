//! The events that a lane wrote lately, so that a Reserve need not read them.
//!
//! A Reserve has to see three things: its event, that its user has no live reservation there, and that its request_id is
//! new. The event is cached as the last batch left it; the rest is assumed. The statement that writes the batch checks all
//! of it under the event's lock ([`Assumption`](crate::store::write::Assumption)): where the event has changed, or
//! something exists that was assumed not to, it writes nothing of the event, and its commands are decided on a read.
//!
//! Only accept speculatively: a refusal is not checked by any write, so it must come from a read.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{unit::Job, working_set::Effects};
use crate::{
    domain::{
        command::Action,
        event::{Definition, Event},
        ids::EventId,
        snapshot::Snapshot,
        time::Timestamp,
    },
    store::write::Written,
};

/// How old PostgreSQL's time may be to decide by: by so much a hold is shorter at the most.
const MAX_CLOCK_AGE: Duration = Duration::from_millis(20);
/// Events with more bytes of text than this are not cached, so that the cache has its bound.
const MAX_TEXT: usize = 1024;
/// The most batches of an event that are read after mispredictions.
const MAX_PENALTY: u8 = 63;

/// The cache.
pub(super) struct EventCache {
    /// How many events it keeps, at the most.
    capacity: usize,
    /// How many connections had been made to the database. A new one may lead to another database, for which the cache is
    /// not valid.
    connections: u64,
    /// PostgreSQL's time when a batch was last written, and when it was asked for.
    clock: Option<(Timestamp, Instant)>,
    /// Those written or used lately, and those before them: dropped together when the first are half of all.
    young: HashMap<EventId, CachedEvent>,
    old: HashMap<EventId, CachedEvent>,
}

/// An event as the last batch left it.
struct CachedEvent {
    event: Event,
    penalty: Penalty,
}

/// How often an event has to be read before it is speculated on again. It doubles with each misprediction: where others
/// write the event too, or users try again and again, speculation does not pay.
#[derive(Clone, Copy, Debug, Default)]
struct Penalty {
    left: u8,
    last: u8,
}

/// What is cached for some commands.
#[derive(Debug)]
pub(super) struct Cached {
    /// PostgreSQL's time, a moment ago.
    pub(super) now: Timestamp,
    /// The events.
    pub(super) snapshots: BTreeMap<EventId, Snapshot>,
    /// Which of the commands need no read, by their place.
    pub(super) is_speculative: Vec<bool>,
}

impl EventCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, connections: 0, clock: None, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is cached for `jobs`, with so many connections made. None: nothing that is of use.
    pub(super) fn get<T: Job>(&mut self, jobs: &[T], connections: u64, now: Instant) -> Option<Cached> {
        self.validate(connections);
        let (clock, _) = self.clock.filter(|(_, asked)| now.saturating_duration_since(*asked) < MAX_CLOCK_AGE)?;
        let mut wanted: BTreeMap<&EventId, u32> = BTreeMap::new();
        for command in jobs.iter().map(Job::command) {
            match &command.action {
                Action::Reserve(reserve) => {
                    let units = wanted.entry(&command.event_id).or_default();
                    *units = units.saturating_add(reserve.quantity);
                }
                // The waitlist has to be read.
                Action::Join(_) | Action::Leave { .. } => return None,
                _ => {}
            }
        }
        let is_easy = |event: &Event, units| event.counters.waiting == 0 && event.available() >= units;
        let cached = wanted.into_iter().filter_map(|(id, units)| {
            let cached = self.find(id)?;
            let is_of_use = cached.penalty.left == 0 && is_easy(&cached.event, units);
            is_of_use.then(|| (id.clone(), Snapshot::new(cached.event.clone())))
        });
        let snapshots: BTreeMap<_, _> = cached.collect();
        let is_speculative = |job: &T| {
            let command = job.command();
            matches!(command.action, Action::Reserve(_)) && snapshots.contains_key(&command.event_id)
        };
        let is_speculative = jobs.iter().map(is_speculative).collect();
        (!snapshots.is_empty()).then_some(Cached { now: clock, snapshots, is_speculative })
    }

    /// The event on which one command can be decided without a read, with so many connections made.
    pub(super) fn get_one<T: Job>(&mut self, job: &T, connections: u64) -> Option<&Event> {
        self.validate(connections);
        let Action::Reserve(_) = job.command().action else { return None };
        self.find(&job.command().event_id).filter(|cached| cached.penalty.left == 0).map(|cached| &cached.event)
    }

    /// Empties it where connections have been made meanwhile.
    fn validate(&mut self, connections: u64) {
        if connections != self.connections {
            *self = Self { connections, ..Self::new(self.capacity) };
        }
    }

    fn find(&mut self, id: &EventId) -> Option<&mut CachedEvent> {
        if let Some((id, cached)) = self.old.remove_entry(id) {
            self.keep(id, cached);
        }
        self.young.get_mut(id)
    }

    /// Takes in what was written of an attempt with these effects.
    pub(super) fn update(&mut self, effects: &Effects, written: &Written) {
        for (id, event) in effects.events() {
            // An event that was passed over never became what it is here: the penalty keeps it from use until it is
            // written again.
            let is_lost = written.passed_over.contains_key(id);
            let learned = |penalty: Penalty| if is_lost { penalty.grown() } else { penalty.shrunk() };
            match self.find(id) {
                Some(cached) => {
                    cached.penalty = learned(cached.penalty);
                    cached.become_like(event);
                    if text_of(&cached.event) > MAX_TEXT {
                        self.young.remove(id);
                    }
                }
                None => {
                    let cached = CachedEvent { event: event.clone(), penalty: learned(Penalty::default()) };
                    self.keep(id.clone(), cached);
                }
            }
        }
        self.clock = written.time.or(self.clock);
    }

    /// Drops the events of an attempt of which it is not known what it wrote.
    pub(super) fn forget(&mut self, effects: &Effects) {
        for (id, _) in effects.events() {
            self.young.remove(id);
            self.old.remove(id);
        }
    }

    fn keep(&mut self, id: EventId, cached: CachedEvent) {
        if self.young.len() >= self.capacity.div_ceil(2) && !self.young.contains_key(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        if self.capacity > 0 && text_of(&cached.event) <= MAX_TEXT {
            self.young.insert(id, cached);
        } else {
            self.young.remove(&id);
        }
    }
}

impl CachedEvent {
    /// Takes the counters of `event`, and the rest only where it has changed, which is seldom: texts that are kept for
    /// long, and made again with each batch, would fragment the heap.
    fn become_like(&mut self, event: &Event) {
        self.event.counters = event.counters;
        if self.event != *event {
            self.event.clone_from(event);
        }
    }
}

/// Bytes of an event's texts.
fn text_of(event: &Event) -> usize {
    let Definition { display_name, series_display_name, venue_display_name, labels, .. } = &event.definition;
    let labels: usize = labels.0.iter().map(|(key, value)| key.len() + value.len()).sum();
    let ids = [
        event.definition.series_id.as_ref().map_or(0, |id| id.as_str().len()),
        event.definition.venue_id.as_ref().map_or(0, |id| id.as_str().len()),
    ];
    let names = [display_name, series_display_name, venue_display_name].map(String::len);
    let reason = event.cancel_reason.as_ref().map_or(0, String::len);
    labels + reason + ids.iter().chain(&names).sum::<usize>()
}

impl Penalty {
    fn grown(self) -> Self {
        let times = self.last.saturating_mul(2).saturating_add(1).min(MAX_PENALTY);
        Self { left: times, last: times }
    }

    fn shrunk(self) -> Self {
        if self.left > 0 { Self { left: self.left - 1, ..self } } else { Self { left: 0, last: self.last / 2 } }
    }
}

#[cfg(test)]
mod tests;
