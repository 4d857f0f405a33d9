//! What the execution of a command takes.

use std::time::Duration;

use crate::config::Strategy;

/// What an execution took.
#[derive(Clone, Copy, Debug)]
pub struct ExecStats {
    /// The strategy that was used last.
    pub strategy: Strategy,
    /// How often it was tried.
    pub attempts: u32,
    /// How often the event had changed since it was read.
    pub conflicts: u32,
    /// Time spent waiting for the row lock.
    pub lock_wait: Duration,
    /// Time spent waiting for a place in a batch.
    pub queue_wait: Duration,
    /// How many commands were committed together.
    pub batch_size: u32,
}

impl ExecStats {
    /// Time spent waiting for others.
    pub fn waited(&self) -> Duration {
        self.lock_wait + self.queue_wait
    }

    /// Of an execution that has not begun.
    pub(super) fn begun(strategy: Strategy) -> Self {
        let none = Duration::ZERO;
        Self { strategy, attempts: 0, conflicts: 0, lock_wait: none, queue_wait: none, batch_size: 1 }
    }
}
