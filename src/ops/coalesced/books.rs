//! The books of a batch: its events as they are after the commands decided so far.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{Item, batch::By};
use crate::{
    domain::{
        command::Command,
        decide::{Commit, Decision, decide},
        event::{Counters, Event},
        ids::EventId,
        refusal::Refusal,
        snapshot::Snapshot,
        time::Timestamp,
    },
    ops::line,
    store::{StoreError, apply::Decided, context::Context},
};

/// What became of one command in a batch that was carried out.
pub(super) enum Fate {
    /// Yes or no.
    Decided(Result<Decision, Refusal>),
    /// It has to be decided under its event's lock.
    LeftOut,
    /// Its time was over before its turn.
    Late,
}

/// The events of a batch, as they are after the commands decided so far.
pub(super) struct Books {
    now: Timestamp,
    snapshots: BTreeMap<EventId, Snapshot>,
    /// The counters of the events as they were loaded.
    seen: BTreeMap<EventId, Counters>,
    /// Who gets the places that a command frees, by the command's place in the batch.
    promotions: BTreeMap<usize, Vec<Commit>>,
}

/// What a batch does: all that the next one has to know of it.
pub(super) struct Trail {
    now: Timestamp,
    steps: BTreeMap<EventId, Step>,
}

/// What a batch does to one event.
struct Step {
    /// The event's version before.
    from: i64,
    after: Event,
    commits: Vec<Commit>,
}

impl Trail {
    /// The events that it changes, as they are then.
    pub(super) fn into_events(self) -> impl Iterator<Item = (EventId, Event)> {
        self.steps.into_iter().map(|(id, step)| (id, step.after))
    }

    /// Lays what it does over a snapshot that shows nothing of it, or all. False: it does not fit, because
    /// others changed the event meanwhile.
    fn is_laid_over(&self, snapshot: &mut Snapshot) -> bool {
        let Some(step) = self.steps.get(&snapshot.event.id) else { return true };
        let version = snapshot.event.counters.version;
        if version == step.from {
            step.commits.iter().for_each(|commit| snapshot.advance(commit));
        }
        version == step.from || version == step.after.counters.version
    }
}

impl Books {
    pub(super) fn new(Context { now, snapshots }: Context) -> Self {
        let seen = snapshots.iter().map(|(id, snapshot)| (id.clone(), snapshot.event.counters)).collect();
        Self { now, snapshots, seen, promotions: BTreeMap::new() }
    }

    /// The books of `items`, from a reading that shows nothing of the batch `ahead` of them, or all of it.
    /// None: the reading does not fit, because others changed an event meanwhile, or does not suffice,
    /// because its holds have to be looked at too.
    pub(super) fn upon(mut read: Context, ahead: Option<&Trail>, items: &[Item]) -> Option<Self> {
        if let Some(ahead) = ahead {
            if !read.snapshots.values_mut().all(|snapshot| ahead.is_laid_over(snapshot)) {
                return None;
            }
            read.now = read.now.max(ahead.now);
        }
        let commands: Vec<_> = items.iter().map(|item| &item.command).collect();
        read.short_of_units(&commands).is_empty().then(|| Self::new(read))
    }

    /// Whether anybody is in line for one of the events.
    pub(super) fn somebody_waits(&self) -> bool {
        self.snapshots.values().any(|snapshot| snapshot.event.counters.waiting > 0)
    }

    /// What a batch does that comes to `decided`.
    pub(super) fn trail(&self, decided: &[Decided<'_>]) -> Trail {
        let steps = decided.iter().filter_map(|Decided { event_id, seen, commits }| {
            let after = self.snapshots.get(*event_id)?.event.clone();
            let commits = commits.iter().copied().cloned().collect();
            Some(((*event_id).clone(), Step { from: seen.version, after, commits }))
        });
        Trail { now: self.now, steps: steps.collect() }
    }

    /// Decides each command on what those before it have left, and who is served with what it frees. Where
    /// nobody waits, no connection is needed.
    pub(super) async fn decide_all(
        &mut self,
        mut conn: Option<&mut PgConnection>,
        items: &[Item],
        by: By,
    ) -> Result<Vec<Fate>, StoreError> {
        let now = Instant::now();
        let mut put_off: HashSet<&EventId> = HashSet::new();
        let mut fates = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let event_id = &item.command.event_id;
            // What comes after a command that was put off must not overtake it.
            let fate = if item.deadline <= now {
                Fate::Late
            } else if put_off.contains(event_id) {
                Fate::LeftOut
            } else {
                let decision = self.decide(&item.command);
                if let (Ok(Decision::Commit(_)), Some(conn)) = (&decision, conn.as_deref_mut()) {
                    self.serve(conn, place, event_id).await?;
                }
                Fate::Decided(decision)
            };
            fates.push(match fate {
                Fate::Decided(Err(no)) if by == By::Version && no.rests_on_the_clock() => {
                    put_off.insert(event_id);
                    Fate::LeftOut
                }
                fate => fate,
            });
        }
        Ok(fates)
    }

    async fn serve(&mut self, conn: &mut PgConnection, place: usize, event_id: &EventId) -> Result<(), StoreError> {
        let Some(snapshot) = self.snapshots.get_mut(event_id) else { return Ok(()) };
        let promotions = line::serve(conn, snapshot, self.now).await?;
        if !promotions.is_empty() {
            self.promotions.insert(place, promotions);
        }
        Ok(())
    }

    /// Decides one command more on its `event` as it is remembered from before the batch `ahead`, unless it is
    /// in the books already. None: it is not a yes.
    pub(super) fn decide_presuming(&mut self, item: &Item, event: &Event, ahead: &Trail) -> Option<Decision> {
        if item.deadline <= Instant::now() {
            return None;
        }
        if !self.snapshots.contains_key(&event.id) {
            let mut snapshot = Snapshot::new(event.clone());
            if !ahead.is_laid_over(&mut snapshot) {
                return None;
            }
            self.seen.insert(event.id.clone(), snapshot.event.counters);
            self.snapshots.insert(event.id.clone(), snapshot);
        }
        let event = &self.snapshots.get(&event.id)?.event;
        let is_easy = event.counters.waiting == 0 && event.available() >= item.command.needs(event);
        if is_easy { self.decide(&item.command).ok() } else { None }
    }

    fn decide(&mut self, command: &Command) -> Result<Decision, Refusal> {
        let snapshot = self.snapshots.get_mut(&command.event_id).ok_or(Refusal::EventNotFound)?;
        let decision = decide(snapshot, command, self.now)?;
        if let Decision::Commit(commit) = &decision {
            snapshot.advance(commit);
        }
        Ok(decision)
    }

    /// What there is to write.
    pub(super) fn decided<'a>(&'a self, items: &'a [Item], fates: &'a [Fate]) -> Vec<Decided<'a>> {
        let mut commits: BTreeMap<&EventId, Vec<&Commit>> = BTreeMap::new();
        for (place, (fate, item)) in fates.iter().zip(items).enumerate() {
            if let Fate::Decided(Ok(Decision::Commit(commit))) = fate {
                let commits = commits.entry(&item.command.event_id).or_default();
                commits.push(commit);
                commits.extend(self.promotions.get(&place).into_iter().flatten());
            }
        }
        let decided = |(event_id, commits)| Some(Decided { event_id, seen: *self.seen.get(event_id)?, commits });
        commits.into_iter().filter_map(decided).collect()
    }
}
