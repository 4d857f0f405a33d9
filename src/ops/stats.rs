//! The effort of executing a command.

use std::time::Duration;

use crate::config::Strategy;

/// The effort of one execution.
#[derive(Clone, Copy, Debug)]
pub struct ExecStats {
    /// The strategy of the last attempt.
    pub strategy: Strategy,
    /// The number of attempts.
    pub attempts: u32,
    /// How often an attempt found that the event had changed since it was read.
    pub conflicts: u32,
    /// Time spent waiting for the row lock.
    pub lock_wait: Duration,
    /// Time spent waiting for a place in a batch.
    pub queue_wait: Duration,
    /// How many commands were committed together.
    pub batch_size: u32,
}

impl ExecStats {
    /// Time spent waiting for a lock or a batch.
    pub fn waited(&self) -> Duration {
        self.lock_wait + self.queue_wait
    }

    /// The stats of an execution that has not begun.
    pub(super) fn begun(strategy: Strategy) -> Self {
        let none = Duration::ZERO;
        Self { strategy, attempts: 0, conflicts: 0, lock_wait: none, queue_wait: none, batch_size: 1 }
    }
}
