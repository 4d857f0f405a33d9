//! COALESCED: commands that arrive while a commit is in flight form the next batch.
//!
//! Events are spread over a few [`lane`]s by hash. A lane takes what is waiting, up to a bound, and
//! carries it out in one transaction ([`batch`]); then it answers each caller. There is no timer: a lone
//! command is a batch of one, and runs at once.
//!
//! A batch has a [`plan`] before it is written: what its commands have to see is read without locks, and
//! `decide` is folded over them in arrival order. Then one statement is the whole transaction. It locks the
//! events in id order, passes over those that somebody else has locked or changed since they were seen,
//! writes the rest, and commits. The row lock is held while that statement runs, and not while an answer
//! travels to the server and back. What is most common is not even read for: a Reserve at an event that the
//! lane has in [`memory`] is decided on that, and the statement checks what was presumed.
//!
//! While PostgreSQL writes a batch, the callers of the one before it are answered, and what waits is decided,
//! as if that batch had been written: what it does is laid over what is read or remembered ([`books`]).
//! Whoever comes meanwhile and needs no reading is taken in, so the next batch grows until it is sent, and
//! PostgreSQL finds it ready when it is done with one. Should that one not be written as planned, what was
//! decided behind it is void, and nobody has been told of it.
//!
//! So a batch never waits for a row lock. An event that it had to pass over leaves the batch and gets a
//! lane of its own, which works under the row lock (lock, read, write, commit), waits for it and for
//! nothing else, and ends when its queue is empty. No lane holds a lock while it waits for another,
//! nobody waits for an event but those who want it, and servers that want the same event take turns.

mod batch;
mod books;
mod lane;
mod memory;
mod plan;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Ledger, OpError,
    execute::{Effort, How, Outcome},
    place::{self, Place},
};
use crate::{
    config::Execution,
    domain::{change::Change, command::Command},
};
use lane::Lane;

/// One command that waits for its turn.
pub(super) struct Item {
    command: Command,
    submitted: Instant,
    deadline: Instant,
    /// How often a batch had to leave it out.
    left_out: u32,
    answer: oneshot::Sender<Answer>,
    /// Kept until it is answered, whether or not the caller goes on waiting.
    _place: Option<Place>,
}

/// What became of one command.
type Answer = Result<Outcome, OpError>;

/// The lanes. Clones share them.
#[derive(Clone)]
pub(super) struct Coalescer {
    lanes: Arc<[Arc<Lane>]>,
    hasher: RandomState,
}

impl Coalescer {
    pub(super) fn new(settings: Execution) -> Self {
        let lanes = (0..settings.lanes.max(1)).map(|_| Arc::new(Lane::new(settings))).collect();
        Self { lanes, hasher: RandomState::new() }
    }

    fn lane_of(&self, command: &Command) -> &Arc<Lane> {
        let hash = self.hasher.hash_one(&command.event_id);
        let place = usize::try_from(hash % self.lanes.len() as u64).unwrap_or(0);
        &self.lanes[place]
    }
}

impl Ledger {
    /// Puts the command into its lane's queue and waits for the answer. Once it is in the queue it is
    /// carried out, whether or not the caller goes on waiting.
    pub(super) async fn coalesce(&self, command: Command, how: &How) -> Answer {
        let (answer, answered) = oneshot::channel();
        let lane = self.coalescer.lane_of(&command);
        let (submitted, deadline) = (Instant::now(), how.deadline);
        lane.submit(self, Item { command, submitted, deadline, left_out: 0, answer, _place: place::held() });
        answered.await.unwrap_or(Err(OpError::Lost))
    }

    /// Answers the command's caller. One that no longer listens has its answer by its request_id.
    fn answer(&self, item: Item, effort: &Effort, answer: Result<(Box<Change>, bool), OpError>) {
        self.count(&item.command, effort, answer.as_ref().map(|(_, replayed)| *replayed));
        let outcome = |(change, replayed)| Outcome { change, replayed, effort: *effort };
        let _ = item.answer.send(answer.map(outcome));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
