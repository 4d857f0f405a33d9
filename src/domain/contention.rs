//! Recommends a strategy for an event, from the waits and conflicts of its commands.

use std::time::Duration;

/// The commands of one event in a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Commands that ended.
    pub commands: u64,
    /// Attempts that found another version than they had read.
    pub conflicts: u64,
    /// Time spent waiting for a turn or a lock, summed over the commands.
    pub waiting: Duration,
}

/// What to use for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A queue forms: commit its commands together.
    Coalesced,
    /// Callers collide now and then: let them wait for the row lock.
    Pessimistic,
    /// Callers hardly ever collide: no lock is needed ahead of the write.
    Optimistic,
}

/// From this many commands waiting at once, on average, a queue has formed.
const QUEUE: f64 = 1.0;
/// From this share of conflicts, repeated attempts cost more than waiting for a lock.
const CONFLICTS: f64 = 0.05;
/// From this many commands waiting at once, on average, callers collide.
const MEETING: f64 = 0.05;

/// The strategy that would have served best.
///
/// By Little's law the time waited, summed over the commands and divided by the window, is the average number of
/// commands that wait at once. While that is at least one, an arriving command finds another to share a commit with.
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
