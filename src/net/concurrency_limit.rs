//! A limit on the calls that run at once over all connections, and the turns in which connections are read when
//! the limit is near.
//!
//! Beyond `max` a call is refused at once. But reading a call, decoding it and writing a refusal costs half of
//! what carrying it out costs, so a server that gets ten times its load would only refuse. Therefore, from three
//! quarters of `max` on, connections are read in turns, a chunk at a time and as calls end: HTTP/2 and TCP then
//! slow the senders down, which costs the server nothing. See [`read_throttle`](super::read_throttle).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, Receiver, Sender};

/// Bytes that are read in one turn.
pub const CHUNK: usize = 2048;
/// Calls that a chunk is expected to hold: a small call has some hundred bytes with its headers.
const CALLS_PER_CHUNK: usize = CHUNK / 100;

/// The calls that run, and the connections that wait to be read.
pub struct ConcurrencyLimit {
    max: usize,
    /// From this many running calls on, connections are read in turns.
    near: usize,
    running: AtomicUsize,
    /// The length of `Reads::queue`, kept apart so that the end of a call need not take the lock.
    queued: AtomicUsize,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    queue: VecDeque<Sender<ReadTurn>>,
    /// Turns that have not ended: the calls that they bring are not counted yet.
    granted: usize,
}

/// A running call, until this is dropped.
pub struct Permit(Arc<ConcurrencyLimit>);

/// A connection's turn to be read, until this is dropped.
pub struct ReadTurn(Arc<ConcurrencyLimit>);

impl ConcurrencyLimit {
    /// Lets `max` calls run at once.
    pub fn new(max: usize) -> Arc<Self> {
        let near = (max - max / 4).max(1);
        let [running, queued] = [0, 0].map(AtomicUsize::new);
        Arc::new(Self { max, near, running, queued, reads: Mutex::default() })
    }

    /// A permit for one more call; None at the limit.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let one_more = |running| (running < self.max).then_some(running + 1);
        self.running.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// Whether connections are read in turns. While any waits, no other overtakes it.
    pub fn is_near(&self) -> bool {
        self.queued.load(SeqCst) > 0 || self.running.load(SeqCst) >= self.near
    }

    /// Queues for a turn to read. Dropping the receiver leaves the queue.
    pub fn queue_read(self: &Arc<Self>) -> Receiver<ReadTurn> {
        let (grant, turn) = oneshot::channel();
        let mut reads = self.reads.lock();
        // Those that came first are also the first to give up.
        while reads.queue.front().is_some_and(Sender::is_closed) {
            reads.queue.pop_front();
        }
        reads.queue.push_back(grant);
        // Stored before the running calls are looked at: a call that ends from now on sees this one queued.
        self.queued.store(reads.queue.len(), SeqCst);
        drop(reads);
        self.grant_reads();
        turn
    }

    /// Grants turns in order, as long as there is room for the calls that they may bring.
    fn grant_reads(self: &Arc<Self>) {
        loop {
            let mut reads = self.reads.lock();
            let mut next = None;
            while self.running.load(SeqCst) + reads.granted * CALLS_PER_CHUNK < self.near
                && next.is_none()
                && let Some(grant) = reads.queue.pop_front()
            {
                next = Some(grant).filter(|grant| !grant.is_closed());
            }
            reads.granted += usize::from(next.is_some());
            self.queued.store(reads.queue.len(), SeqCst);
            drop(reads);
            let Some(next) = next else { return };
            // Sent without the lock: a turn that has no receiver any more is dropped here, which takes the lock.
            let _ = next.send(ReadTurn(Arc::clone(self)));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self(limit) = self;
        let running = limit.running.fetch_sub(1, SeqCst) - 1;
        if running < limit.near && limit.queued.load(SeqCst) > 0 {
            limit.grant_reads();
        }
    }
}

impl Drop for ReadTurn {
    fn drop(&mut self) {
        self.0.reads.lock().granted -= 1;
        self.0.grant_reads();
    }
}

#[cfg(test)]
mod tests;
