//! What a lane remembers of its events, so that a Reserve need not be read for.
//!
//! A Reserve has to see three things: its event, that its user has no live reservation there, and that its
//! request_id is new. The event is remembered from the batch that wrote it last; the rest is presumed. The
//! statement that writes the batch checks all of it under the event's lock ([`Alone`](crate::store::apply::Alone)):
//! where somebody else has changed the event, or something is there that was presumed not to be, it writes
//! nothing, and the commands are decided anew on what is read.
//!
//! Only a yes is ever decided like this. A no is not checked by anybody, so it always rests on a reading.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{Item, books::Trail};
use crate::{
    domain::{
        command::Action,
        event::{Definition, Event},
        ids::EventId,
        snapshot::Snapshot,
        time::Timestamp,
    },
    store::apply::Written,
};

/// How old PostgreSQL's time may be to decide by: by so much a hold is shorter at the most.
const CURRENT: Duration = Duration::from_millis(20);
/// Events with more bytes of text than this are not remembered, so that memory has its bound.
const MAX_TEXT: usize = 1024;
/// The most batches of an event that are read after a presumption was wrong again and again.
const MAX_DOUBT: u8 = 63;

/// The events that a lane wrote lately, as it left them.
pub(super) struct Memory {
    /// How many events it keeps, at the most.
    capacity: usize,
    /// How many connections had been made to the database. With another it may be another database, of which
    /// nothing is remembered.
    connections: u64,
    /// PostgreSQL's time when a batch was last written, and when it was asked for.
    told: Option<(Timestamp, Instant)>,
    /// Those written or recalled lately, and those before them: forgotten together when the first are half
    /// of all.
    young: HashMap<EventId, Known>,
    old: HashMap<EventId, Known>,
}

struct Known {
    event: Event,
    doubt: Doubt,
}

/// How often an event has to be read before something is presumed again. It doubles each time that a
/// presumption was wrong: where others write the event too, or users try again and again, it does not pay.
#[derive(Clone, Copy, Default)]
struct Doubt {
    left: u8,
    last: u8,
}

/// What is remembered for some commands.
pub(super) struct Recalled {
    /// PostgreSQL's time, a moment ago.
    pub(super) now: Timestamp,
    /// The events.
    pub(super) snapshots: BTreeMap<EventId, Snapshot>,
    /// Which of the commands need no reading, by their place.
    pub(super) is_presumed: Vec<bool>,
}

impl Memory {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, connections: 0, told: None, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is remembered for `items`, with so many connections made. None: nothing that is of use.
    pub(super) fn recall(&mut self, items: &[Item], connections: u64) -> Option<Recalled> {
        self.keep_if_still(connections);
        let (now, _) = self.told.filter(|(_, asked)| asked.elapsed() < CURRENT)?;
        let mut wanted: BTreeMap<&EventId, u32> = BTreeMap::new();
        for item in items {
            match &item.command.action {
                Action::Reserve(reserve) => {
                    let units = wanted.entry(&item.command.event_id).or_default();
                    *units = units.saturating_add(reserve.quantity);
                }
                // Who is in line has to be read.
                Action::Join(_) | Action::Leave { .. } => return None,
                _ => {}
            }
        }
        let is_easy = |event: &Event, units| event.counters.waiting == 0 && event.available() >= units;
        let known = wanted.into_iter().filter_map(|(id, units)| {
            let known = self.known(id)?;
            let is_of_use = known.doubt.left == 0 && is_easy(&known.event, units);
            is_of_use.then(|| (id.clone(), Snapshot::new(known.event.clone())))
        });
        let snapshots: BTreeMap<_, _> = known.collect();
        let is_presumed = |item: &Item| {
            matches!(item.command.action, Action::Reserve(_)) && snapshots.contains_key(&item.command.event_id)
        };
        let is_presumed = items.iter().map(is_presumed).collect();
        (!snapshots.is_empty()).then_some(Recalled { now, snapshots, is_presumed })
    }

    /// The event that one command needs no reading for, with so many connections made.
    pub(super) fn known_for(&mut self, item: &Item, connections: u64) -> Option<&Event> {
        self.keep_if_still(connections);
        let Action::Reserve(_) = item.command.action else { return None };
        self.known(&item.command.event_id).filter(|known| known.doubt.left == 0).map(|known| &known.event)
    }

    /// Forgets everything where connections have been made meanwhile.
    fn keep_if_still(&mut self, connections: u64) {
        if connections != self.connections {
            *self = Self { connections, ..Self::new(self.capacity) };
        }
    }

    fn known(&mut self, id: &EventId) -> Option<&mut Known> {
        if let Some((id, known)) = self.old.remove_entry(id) {
            self.keep(id, known);
        }
        self.young.get_mut(id)
    }

    /// Learns what a batch has done of all that it was to do.
    pub(super) fn learn(&mut self, trail: Trail, written: &Written) {
        for (id, event) in trail.into_events() {
            let is_lost = written.lost.contains(&id);
            // Of one that was passed over `event` never came to be: doubt keeps it from use until it is
            // learned anew.
            let learned = |doubt: Doubt| if is_lost { doubt.grown() } else { doubt.shrunk() };
            let (event, doubt) = match self.known(&id) {
                Some(known) => {
                    known.doubt = learned(known.doubt);
                    (known.count_like(event), known.doubt)
                }
                None => (Some(event), learned(Doubt::default())),
            };
            if let Some(event) = event {
                self.keep(id, Known { event, doubt });
            }
        }
        self.told = written.time.or(self.told);
    }

    /// Forgets the events of a batch of which it is not known what it did.
    pub(super) fn forget(&mut self, trail: Trail) {
        for (id, _) in trail.into_events() {
            self.young.remove(&id);
            self.old.remove(&id);
        }
    }

    fn keep(&mut self, id: EventId, known: Known) {
        if self.young.len() >= self.capacity.div_ceil(2) && !self.young.contains_key(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        if self.capacity > 0 && text_of(&known.event) <= MAX_TEXT {
            self.young.insert(id, known);
        } else {
            self.young.remove(&id);
        }
    }
}

impl Known {
    /// Takes the counters of `event`. Gives it back where more than these has changed, which is seldom. The rest
    /// stays where it is: texts that are kept for long, and made anew with each batch, would lie all over the heap.
    fn count_like(&mut self, event: Event) -> Option<Event> {
        let counters = event.counters;
        let as_before = Event { counters: self.event.counters, ..event };
        if as_before != self.event {
            return Some(Event { counters, ..as_before });
        }
        self.event.counters = counters;
        None
    }
}

/// Bytes of an event's texts.
fn text_of(event: &Event) -> usize {
    let Definition { display_name, series, venue, labels, .. } = &event.definition;
    let labels: usize = labels.0.iter().map(|(key, value)| key.len() + value.len()).sum();
    let optional = [series, venue, &event.cancel_reason].map(|text| text.as_ref().map_or(0, String::len));
    display_name.len() + labels + optional.iter().sum::<usize>()
}

impl Doubt {
    fn grown(self) -> Self {
        let times = self.last.saturating_mul(2).saturating_add(1).min(MAX_DOUBT);
        Self { left: times, last: times }
    }

    fn shrunk(self) -> Self {
        if self.left > 0 { Self { left: self.left - 1, ..self } } else { Self { left: 0, last: self.last / 2 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Counters, EventState};

    fn known(number: u32) -> (EventId, Known) {
        let id = EventId::parse(&format!("event-{number}")).expect("valid");
        let event = Event {
            id: id.clone(),
            definition: Definition::default(),
            state: EventState::Open,
            cancel_reason: None,
            counters: Counters::default(),
            create_time: Timestamp::from_micros(0).expect("a moment"),
            update_time: Timestamp::from_micros(0).expect("a moment"),
        };
        (id, Known { event, doubt: Doubt::default() })
    }

    #[test]
    fn it_keeps_what_was_used_lately_and_never_more_than_it_may() {
        let mut memory = Memory::new(10);
        for number in 0..100 {
            let (id, known) = known(number);
            memory.keep(id, known);
            assert!(memory.known(&known_id(0)).is_some(), "it was asked for all the time");
            assert!(memory.young.len() + memory.old.len() <= 10);
        }
        assert!(memory.known(&known_id(99)).is_some());
        assert!(memory.known(&known_id(50)).is_none());
    }

    fn known_id(number: u32) -> EventId {
        known(number).0
    }

    #[test]
    fn it_takes_on_what_has_changed() {
        let (_, mut known) = known(1);
        let mut event = known.event.clone();
        event.counters.held = 3;
        assert_eq!(known.count_like(event.clone()), None);
        assert_eq!(known.event, event);
        event.counters.held = 4;
        event.definition.capacity = 7;
        assert_eq!(known.count_like(event.clone()), Some(event), "it is more than its counters");
        assert_eq!(known.event.counters.held, 3);
    }

    #[test]
    fn without_room_it_remembers_nothing() {
        let mut memory = Memory::new(0);
        let (id, known) = known(1);
        memory.keep(id, known);
        assert!(memory.known(&known_id(1)).is_none());
    }

    #[test]
    fn doubt_doubles_with_each_mistake_and_goes_when_there_are_none() {
        let mut doubt = Doubt::default();
        for times in [1, 3, 7, 15, 31, 63, 63] {
            doubt = doubt.grown();
            assert_eq!(doubt.left, times);
            while doubt.left > 0 {
                doubt = doubt.shrunk();
            }
        }
        for _ in 0..6 {
            doubt = doubt.shrunk();
        }
        assert_eq!(doubt.grown().left, 1);
    }
}
