//! Which strategy would have served an event best, judged by how its commands fared.

use std::time::Duration;

/// How the commands of one event fared in a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Commands that ended.
    pub commands: u64,
    /// Attempts that met another version than they had read.
    pub conflicts: u64,
    /// Time spent on waiting for a turn or a lock, summed over the commands.
    pub waiting: Duration,
}

/// What to use for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A queue forms: commit it together.
    Coalesced,
    /// Callers meet now and then: let them wait for each other.
    Pessimistic,
    /// Callers hardly ever meet: nobody needs to lock ahead.
    Optimistic,
}

/// From this many commands waiting at once, on average, a queue has formed.
const QUEUE: f64 = 1.0;
/// From this share of conflicts, work is thrown away that waiting would have saved.
const CONFLICTS: f64 = 0.05;
/// From this many commands waiting at once, on average, callers meet.
const MEETING: f64 = 0.05;

/// The strategy that would have served best.
///
/// By Little's law the time waited, summed over the commands and divided by the window, is how many
/// commands were waiting at once on average. While that is at least one, whoever comes has somebody to
/// share a commit with.
pub fn advise(load: Load, window: Duration) -> Advice {
    let waiting_at_once = load.waiting.as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE);
    let conflicts = load.conflicts as f64 / (load.commands.max(1)) as f64;
    if waiting_at_once >= QUEUE || conflicts >= 1.0 {
        Advice::Coalesced
    } else if waiting_at_once >= MEETING || conflicts >= CONFLICTS {
        Advice::Pessimistic
    } else {
        Advice::Optimistic
    }
}

#[cfg(test)]
mod tests;
