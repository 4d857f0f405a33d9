//! A fair queue for large answers. Lists and batches of reads take memory and database connections while they are
//! made, so only a few are made at once. Further calls wait in a queue for each client, and the clients take turns: one
//! that sends hundreds at once waits for itself. What waits is bounded too; beyond the bound the client with most
//! in the queue is refused.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::slow_client::CALL_BYTES;
use crate::telemetry::metrics::Metrics;

/// Bytes of calls that may wait.
const MAX_QUEUED: usize = 8 * 1024 * 1024;

/// The large answers of a server.
pub struct FairQueue {
    class: &'static str,
    max: usize,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// The number of the last call that was queued.
    last: u64,
    running: usize,
    /// Bytes of the queued calls.
    bytes: usize,
    /// The clients with queued calls, in the order of their turns.
    clients: VecDeque<ClientQueue>,
}

/// The queued calls of one client, oldest first.
struct ClientQueue {
    client: u64,
    bytes: usize,
    calls: VecDeque<Call>,
}

struct Call {
    number: u64,
    bytes: usize,
    grant: oneshot::Sender<Permit>,
}

/// An answer that is being made, until this is dropped.
pub struct Permit(Arc<FairQueue>);

/// A queued call; leaves the queue when it is dropped.
struct Queued<'q> {
    queue: &'q FairQueue,
    client: u64,
    number: u64,
    permit: oneshot::Receiver<Permit>,
}

impl FairQueue {
    /// Lets `max` answers be made at once.
    pub fn new(class: &'static str, max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { class, max, state: Mutex::default(), metrics })
    }

    /// Waits for the turn of a call whose message has `bytes`. None: the queue is full, and this client has most of it.
    pub async fn acquire(self: &Arc<Self>, client: u64, bytes: usize) -> Option<Permit> {
        let mut queued = {
            let mut state = self.state.lock();
            if state.clients.is_empty() && state.running < self.max {
                state.running += 1;
                self.show(&state);
                return Some(Permit(Arc::clone(self)));
            }
            let (number, permit) = state.push(client, CALL_BYTES + bytes)?;
            self.show(&state);
            Queued { queue: self, client, number, permit }
        };
        // An error: it was removed to make room for a client with less.
        (&mut queued.permit).await.ok()
    }

    /// Grants permits to the next calls, as long as there are any.
    fn grant(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let call = if state.running < self.max { state.pop() } else { None };
            state.running += usize::from(call.is_some());
            self.show(&state);
            drop(state);
            let Some(call) = call else { return };
            // Sent without the lock: a permit that has no receiver any more is dropped here, which takes the lock.
            let _ = call.grant.send(Permit(Arc::clone(self)));
        }
    }

    fn show(&self, state: &State) {
        let queued = state.clients.iter().map(|client| client.calls.len()).sum();
        self.metrics.set_call_queue(self.class, state.running, queued);
    }
}

impl State {
    /// Queues a call behind those of its client, removing calls of clients with more where there is no room.
    fn push(&mut self, client: u64, bytes: usize) -> Option<(u64, oneshot::Receiver<Permit>)> {
        let own = self.clients.iter().find(|queue| queue.client == client).map_or(0, |queue| queue.bytes);
        while self.bytes + bytes > MAX_QUEUED {
            let largest = self.clients.iter().max_by_key(|queue| queue.bytes)?;
            if largest.bytes <= own + bytes {
                return None;
            }
            let (client, number) = (largest.client, largest.calls.back()?.number);
            self.remove(client, number);
        }
        self.last += 1;
        let (grant, permit) = oneshot::channel();
        let call = Call { number: self.last, bytes, grant };
        self.bytes += bytes;
        match self.clients.iter_mut().find(|queue| queue.client == client) {
            Some(queue) => {
                queue.bytes += bytes;
                queue.calls.push_back(call);
            }
            None => self.clients.push_back(ClientQueue { client, bytes, calls: VecDeque::from([call]) }),
        }
        Some((self.last, permit))
    }

    /// The next call. The one after it is another client's, if another client has one.
    fn pop(&mut self) -> Option<Call> {
        let mut queue = self.clients.pop_front()?;
        let call = queue.calls.pop_front()?;
        queue.bytes -= call.bytes;
        self.bytes -= call.bytes;
        if !queue.calls.is_empty() {
            self.clients.push_back(queue);
        }
        Some(call)
    }

    /// Removes a call, if it is still queued.
    fn remove(&mut self, client: u64, number: u64) {
        let Some(place) = self.clients.iter().position(|queue| queue.client == client) else { return };
        let queue = &mut self.clients[place];
        let Ok(found) = queue.calls.binary_search_by_key(&number, |call| call.number) else { return };
        let bytes = queue.calls.remove(found).map_or(0, |call| call.bytes);
        queue.bytes -= bytes;
        self.bytes -= bytes;
        if queue.calls.is_empty() {
            self.clients.remove(place);
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.remove(self.client, self.number);
        self.queue.show(&state);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.grant();
    }
}

#[cfg(test)]
mod tests;
