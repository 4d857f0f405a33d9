//! Decides a batch in memory: on what was read, on what is cached, and upon the effects of the batch before it.

use tokio::time::Instant;

use crate::{
    ops::execute::{
        event_cache::Cached,
        unit::{BY_VERSION, Job},
        working_set::{Draft, Effects, Progress, WorkingSet},
    },
    store::Context,
};

/// A batch in memory: decided as far as it goes, and not yet closed.
pub(super) struct Speculation {
    pub(super) set: WorkingSet,
    pub(super) speculative: Vec<bool>,
    pub(super) connections: u64,
}

impl Speculation {
    /// Ready to be written.
    pub(super) fn into_draft(self) -> Draft {
        self.set.into_speculative_draft(self.speculative, Some(self.connections))
    }
}

/// Decides commands on `context`, upon the effects of the batch that is being written. None: more has to be read, or
/// the two do not fit together.
pub(super) fn decide<T: Job>(
    jobs: &[T],
    context: Context,
    effects: Option<&Effects>,
    now: Instant,
) -> Option<WorkingSet> {
    let mut set = WorkingSet::overlaid(context, effects)?;
    // Who is offered what comes free is read as the batch ahead leaves it.
    let is_ahead_of_waitlist = effects.is_some() && set.has_waiting();
    let is_done = !is_ahead_of_waitlist
        && set.foreseeable_needs(jobs).is_empty()
        && set.proceed(jobs, BY_VERSION, now) == Progress::Done;
    is_done.then_some(set)
}

/// The same for a batch that was read for, where some of its events are cached.
pub(super) fn decide_on_read<T: Job>(
    jobs: &[T],
    mut read: Context,
    cached: Option<&Cached>,
    effects: Option<&Effects>,
    connections: u64,
    now: Instant,
) -> Option<Speculation> {
    let speculative = cached.map_or_else(Vec::new, |cached| cached.is_speculative.clone());
    if let Some(cached) = cached {
        read.now = read.now.max(cached.now);
        for (id, snapshot) in &cached.snapshots {
            // An event that some of its commands were read for is as it was read.
            read.snapshots.entry(id.clone()).or_insert_with(|| snapshot.clone());
        }
    }
    let set = decide(jobs, read, effects, now)?;
    let is_safe = cached.is_none() || set.accepts_all_of(&speculative);
    is_safe.then_some(Speculation { set, speculative, connections })
}
