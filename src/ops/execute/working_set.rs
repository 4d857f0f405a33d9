//! The events of an attempt in memory: commands are decided on them one after the other, each on what those before it
//! leave. Pure: what has to be read is asked for, and read elsewhere.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

use super::unit::{ConcurrencyControl, Diversion, Job, Outcome};
use crate::{
    domain::{
        commit::{Commit, Step},
        decide::{promotions, step},
        event::{Counters, Event},
        ids::EventId,
        needs::Needs,
        refusal::Refusal,
        snapshot::{Loaded, Snapshot},
        time::Timestamp,
    },
    store::{
        Context,
        write::{Assumption, EventWrite},
    },
};

/// The events of an attempt, as they are after the commands decided so far.
#[derive(Debug)]
pub(super) struct WorkingSet {
    now: Timestamp,
    snapshots: BTreeMap<EventId, Snapshot>,
    /// The counters of the events as they were read.
    seen: BTreeMap<EventId, Counters>,
    outcomes: Vec<Outcome>,
    /// Who is offered what a command frees, by the command's place.
    promotions: BTreeMap<usize, Vec<Arc<Commit>>>,
    /// Whether the last command is decided, and what it frees is not offered yet.
    is_promoting: bool,
    /// Events of which a command was diverted: what comes after it must not overtake it.
    diverted: HashSet<EventId>,
}

/// How far deciding has come.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// Every command has its outcome.
    Done,
    /// This has to be read first.
    Needs(EventId, Needs),
}

/// What an attempt does: all that the next one has to know of it.
#[derive(Debug)]
pub(super) struct Effects {
    now: Timestamp,
    events: BTreeMap<EventId, EventEffects>,
}

/// What an attempt does to one event.
#[derive(Debug)]
struct EventEffects {
    /// The event's version before.
    from: i64,
    after: Event,
    commits: Vec<Arc<Commit>>,
}

impl Effects {
    /// The events that it changes, as they are then.
    pub(super) fn events(&self) -> impl Iterator<Item = (&EventId, &Event)> {
        self.events.iter().map(|(id, effects)| (id, &effects.after))
    }

    /// Whether it ends everything on an event, which a snapshot can't follow.
    fn ends_all(&self) -> bool {
        self.events.values().any(|effects| effects.commits.iter().any(|commit| commit.ends_all.is_some()))
    }

    /// Advances a snapshot that shows nothing of it, or all, to one that shows all. False: it does not fit, because the
    /// event has been changed by others meanwhile.
    fn overlays(&self, snapshot: &mut Snapshot) -> bool {
        let Some(effects) = self.events.get(&snapshot.event.id) else { return true };
        let version = snapshot.event.counters.version;
        if version == effects.from {
            effects.commits.iter().for_each(|commit| snapshot.advance(commit));
        }
        version == effects.from || version == effects.after.counters.version
    }
}

impl WorkingSet {
    /// What was read.
    pub(super) fn new(Context { now, snapshots }: Context) -> Self {
        let seen = snapshots.iter().map(|(id, snapshot)| (id.clone(), snapshot.event.counters)).collect();
        let (outcomes, promotions, diverted) = (Vec::new(), BTreeMap::new(), HashSet::new());
        Self { now, snapshots, seen, outcomes, promotions, is_promoting: false, diverted }
    }

    /// What was read, while the attempt with these effects was being written: the reading shows nothing of it, or all.
    /// None: it does not fit, because others have changed an event meanwhile.
    pub(super) fn overlaid(mut read: Context, effects: Option<&Effects>) -> Option<Self> {
        if let Some(effects) = effects {
            if effects.ends_all() || !read.snapshots.values_mut().all(|snapshot| effects.overlays(snapshot)) {
                return None;
            }
            read.now = read.now.max(effects.now);
        }
        Some(Self::new(read))
    }

    /// PostgreSQL's time when it was read.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The events.
    pub(super) fn snapshots(&self) -> &BTreeMap<EventId, Snapshot> {
        &self.snapshots
    }

    /// Whether an event has a waitlist.
    pub(super) fn has_waiting(&self) -> bool {
        self.snapshots.values().any(|snapshot| snapshot.event.counters.waiting > 0)
    }

    /// What the commands need as their events stand now; each is asked again when it is its turn.
    pub(super) fn foreseeable_needs<T: Job>(&self, jobs: &[T]) -> BTreeMap<EventId, Needs> {
        let (mut needs, mut units) = (BTreeMap::<EventId, Needs>::new(), BTreeMap::<&EventId, u32>::new());
        for command in jobs.iter().map(Job::command) {
            let Some(snapshot) = self.snapshots.get(&command.event_id) else { continue };
            let wanted = units.entry(&command.event_id).or_default();
            *wanted = wanted.saturating_add(command.units(&snapshot.event));
            let missing = snapshot.missing(command);
            if !missing.is_empty() {
                needs.entry(command.event_id.clone()).or_default().add(missing);
            }
        }
        for (event_id, wanted) in units {
            let Some(snapshot) = self.snapshots.get(event_id) else { continue };
            let holds = snapshot.holds_to_load(wanted.saturating_sub(snapshot.event.available()));
            if holds.is_some() {
                needs.entry(event_id.clone()).or_default().add(Needs { holds, ..Needs::default() });
            }
        }
        needs
    }

    /// Adds what was read. False: an event has changed since it was read.
    pub(super) fn add(&mut self, needs: &BTreeMap<EventId, Needs>, loaded: BTreeMap<EventId, Loaded>) -> bool {
        loaded.into_iter().all(|(event_id, loaded)| match (self.snapshots.get_mut(&event_id), needs.get(&event_id)) {
            (Some(snapshot), Some(needs)) => snapshot.add(needs, loaded, self.now),
            _ => true,
        })
    }

    /// Decides the commands that have no outcome yet, and who is offered what each of them frees.
    pub(super) fn proceed<T: Job>(&mut self, jobs: &[T], control: ConcurrencyControl, now: Instant) -> Progress {
        loop {
            if self.is_promoting
                && let Err((event_id, needs)) = self.promote(jobs)
            {
                return Progress::Needs(event_id, needs);
            }
            let Some(job) = jobs.get(self.outcomes.len()) else { return Progress::Done };
            if let Err(needs) = self.decide(job, control, now) {
                return Progress::Needs(job.command().event_id.clone(), needs);
            }
        }
    }

    fn decide<T: Job>(&mut self, job: &T, control: ConcurrencyControl, now: Instant) -> Result<(), Needs> {
        let command = job.command();
        let outcome = if job.deadline() <= now {
            Outcome::Overdue
        } else if self.diverted.contains(&command.event_id) {
            Outcome::Diverted(Diversion::Behind)
        } else {
            self.step(job, control)?
        };
        if matches!(outcome, Outcome::Diverted(_)) {
            self.diverted.insert(command.event_id.clone());
        }
        self.is_promoting = matches!(outcome, Outcome::Accepted(_));
        self.outcomes.push(outcome);
        Ok(())
    }

    fn step<T: Job>(&mut self, job: &T, control: ConcurrencyControl) -> Result<Outcome, Needs> {
        let command = job.command();
        let Some(snapshot) = self.snapshots.get_mut(&command.event_id) else {
            return Ok(Outcome::Refused(Refusal::EventNotFound));
        };
        if command.reads_sums() && snapshot.is_advanced() {
            return Ok(Outcome::Diverted(Diversion::Behind));
        }
        let is_by_version = matches!(control, ConcurrencyControl::Version { .. });
        Ok(match step(snapshot, command, self.now) {
            Step::Needs(needs) => return Err(needs),
            // A commit that may still come to be has the row locked.
            Step::Refused(refusal) if is_by_version && (refusal.rests_on_the_clock() || job.is_unsure()) => {
                Outcome::Diverted(Diversion::Clock)
            }
            Step::Refused(refusal) => Outcome::Refused(refusal),
            Step::Replayed(change) => Outcome::Replayed(change),
            Step::Accepted(commit) => {
                if commit.ends_all.is_some() {
                    self.diverted.insert(command.event_id.clone());
                }
                Outcome::Accepted(Arc::new(commit))
            }
        })
    }

    /// Whether every command has its outcome, and none was diverted: what comes next can be decided behind them.
    pub(super) fn is_all_decided(&self) -> bool {
        !self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Diverted(_)))
    }

    /// Whether nothing was refused.
    pub(super) fn is_all_accepted(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_acceptance)
    }

    /// Whether none of these commands was refused.
    pub(super) fn accepts_all_of(&self, speculative: &[bool]) -> bool {
        let decided = self.outcomes.iter().zip(speculative);
        decided.filter(|(_, is_speculative)| **is_speculative).all(|(outcome, _)| outcome.is_acceptance())
    }

    /// Offers what the last command frees.
    fn promote<T: Job>(&mut self, jobs: &[T]) -> Result<(), (EventId, Needs)> {
        let place = self.outcomes.len() - 1;
        if let Some(snapshot) = jobs.get(place).and_then(|job| self.snapshots.get_mut(&job.command().event_id)) {
            let event_id = snapshot.event.id.clone();
            if let Some(Outcome::Accepted(cause)) = self.outcomes.last_mut() {
                let promotions = promotions(snapshot, Arc::make_mut(cause), self.now);
                let promotions = promotions.map_err(|needs| (event_id, needs))?;
                if !promotions.is_empty() {
                    self.promotions.insert(place, promotions.into_iter().map(Arc::new).collect());
                }
            }
        }
        self.is_promoting = false;
        Ok(())
    }

    /// Decides one command more on an event as it is cached from before the attempt with these effects, unless the set
    /// has the event already. False: it is not accepted without reading, and left out.
    pub(super) fn speculate<T: Job>(&mut self, job: &T, event: &Event, effects: &Effects, now: Instant) -> bool {
        let command = job.command();
        if job.deadline() <= now || self.diverted.contains(&event.id) {
            return false;
        }
        if !self.snapshots.contains_key(&event.id) {
            let mut snapshot = Snapshot::new(event.clone());
            if effects.ends_all() || !effects.overlays(&mut snapshot) {
                return false;
            }
            self.seen.insert(event.id.clone(), snapshot.event.counters);
            self.snapshots.insert(event.id.clone(), snapshot);
        }
        let Some(snapshot) = self.snapshots.get_mut(&event.id) else { return false };
        if snapshot.event.counters.waiting > 0 || snapshot.event.available() < command.units(&snapshot.event) {
            return false;
        }
        match step(snapshot, command, self.now) {
            Step::Accepted(commit) => self.outcomes.push(Outcome::Accepted(Arc::new(commit))),
            Step::Replayed(change) => self.outcomes.push(Outcome::Replayed(change)),
            Step::Needs(_) | Step::Refused(_) => return false,
        }
        true
    }

    /// Ready to be written, with nothing speculative about it.
    pub(super) fn into_draft(self) -> Draft {
        self.into_speculative_draft(Vec::new(), None)
    }

    /// The same, where some commands were decided by speculation; so many connections had been made before.
    pub(super) fn into_speculative_draft(self, speculative: Vec<bool>, connections: Option<u64>) -> Draft {
        let mut commits: BTreeMap<EventId, Vec<Arc<Commit>>> = BTreeMap::new();
        for (place, outcome) in self.outcomes.iter().enumerate() {
            if let Outcome::Accepted(commit) = outcome {
                let event_id = commit.answer().event_id();
                let promotions = self.promotions.get(&place).into_iter().flatten();
                if let Some(commits) = commits.get_mut(event_id) {
                    commits.push(Arc::clone(commit));
                    commits.extend(promotions.cloned());
                } else {
                    let all = std::iter::once(commit).chain(promotions).cloned().collect();
                    commits.insert(event_id.clone(), all);
                }
            }
        }
        let (mut snapshots, seen) = (self.snapshots, self.seen);
        let events = commits.into_iter().filter_map(|(id, commits)| {
            let from = seen.get(&id)?.version;
            let after = snapshots.remove(&id)?.event;
            Some((id, EventEffects { from, after, commits }))
        });
        let effects = Arc::new(Effects { now: self.now, events: events.collect() });
        Draft { outcomes: self.outcomes, effects, seen, speculative, connections }
    }
}

/// What was decided, ready to be written.
#[derive(Debug)]
pub(super) struct Draft {
    /// What becomes of each command, in their order.
    pub(super) outcomes: Vec<Outcome>,
    /// What it does.
    pub(super) effects: Arc<Effects>,
    seen: BTreeMap<EventId, Counters>,
    /// Which of the commands were decided by speculation; none if empty.
    speculative: Vec<bool>,
    /// How many connections had been made before. None: it is written on the connection that it was read on.
    connections: Option<u64>,
}

impl Draft {
    /// Whether some of it is speculative.
    pub(super) fn is_speculative(&self) -> bool {
        self.speculative.contains(&true)
    }

    /// How many commands were decided by speculation.
    pub(super) fn speculations(&self) -> u64 {
        self.speculative.iter().filter(|is_speculative| **is_speculative).count() as u64
    }

    /// Whether a connection was made since: it may lead to another database, on which nothing was read.
    pub(super) fn is_outdated(&self, connections: u64) -> bool {
        self.connections.is_some_and(|before| before != connections)
    }

    /// What there is to write.
    pub(super) fn writes<'a, T: Job>(&'a self, jobs: &'a [T]) -> Vec<EventWrite<'a>> {
        let mut writes: Vec<_> = self
            .effects
            .events
            .iter()
            .filter_map(|(event_id, effects)| {
                let commits = effects.commits.iter().map(|commit| &**commit).collect();
                Some(EventWrite { event_id, seen: *self.seen.get(event_id)?, commits, assumptions: Vec::new() })
            })
            .collect();
        let decided = jobs.iter().zip(&self.outcomes).zip(&self.speculative);
        for ((job, outcome), _) in decided.filter(|(_, is_speculative)| **is_speculative) {
            let Outcome::Accepted(commit) = outcome else { continue };
            let Some(reservation) = commit.answer().reservation() else { continue };
            let request_id = job.command().request.as_ref().map(|request| &request.id);
            let assumption = Assumption { user_id: &reservation.user_id, request_id };
            let of_event = writes.binary_search_by(|write| write.event_id.cmp(&job.command().event_id));
            if let Ok(place) = of_event {
                writes[place].assumptions.push(assumption);
            }
        }
        writes
    }
}
