//! A fair queue for calls that take a lot. Lists and costly reads take memory and database connections while they run,
//! so only a few run at once. Further calls wait in a queue for each client, and the clients take turns: one
//! that sends hundreds at once waits for itself. What waits is bounded too; beyond the bound the client with most
//! in the queue is refused.
//!
//! A question is asked once at a time. Calls with the question of one that runs wait; when the next of them begins, it
//! takes the others along, and they get its answer. So no answer is older than the call that it is for: a call
//! that comes after the answer was begun waits for the next one.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::slow_client::CALL_BYTES;
use crate::telemetry::metrics::Metrics;

/// Bytes of calls that may wait.
const MAX_QUEUED: usize = 8 * 1024 * 1024;

/// Tells which calls may share an answer, of the type `A`: those for which it is equal.
pub type Question = Bytes;

/// The calls of one class.
pub struct FairQueue<A> {
    class: &'static str,
    max: usize,
    state: Mutex<State<A>>,
    metrics: Arc<Metrics>,
}

/// A call that asks for its turn.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The number of its client.
    pub client: u64,
    /// The length of its message.
    pub bytes: usize,
    /// Until when its caller waits.
    pub deadline: Instant,
    /// None: it shares its answer with no other call.
    pub question: Option<Question>,
}

/// What becomes of a call that was queued.
pub enum Turn<A> {
    /// It runs.
    Run(Permit<A>),
    /// Another call, which began after this one had come, has answered the same question.
    Answered(A),
}

struct State<A> {
    /// The number of the last call that was queued.
    last: u64,
    running: usize,
    /// The questions of the calls that run.
    being_answered: HashSet<Question>,
    /// Bytes of the queued calls.
    bytes: usize,
    /// The clients with queued calls, in the order of their turns.
    clients: VecDeque<ClientQueue<A>>,
}

/// The queued calls of one client, oldest first.
struct ClientQueue<A> {
    client: u64,
    bytes: usize,
    calls: VecDeque<Call<A>>,
}

struct Call<A> {
    number: u64,
    bytes: usize,
    deadline: Instant,
    question: Option<Question>,
    grant: oneshot::Sender<Turn<A>>,
}

/// A call that runs, until this is dropped.
pub struct Permit<A> {
    queue: Arc<FairQueue<A>>,
    question: Option<Question>,
}

/// Calls that wait for the answer of one that runs.
pub struct Followers<A>(Vec<Call<A>>);

/// A queued call; leaves the queue when it is dropped.
struct Queued<'q, A> {
    queue: &'q FairQueue<A>,
    client: u64,
    number: u64,
    turn: oneshot::Receiver<Turn<A>>,
}

impl<A> FairQueue<A> {
    /// Lets `max` calls run at once; `class` names them in the metrics.
    pub fn new(class: &'static str, max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let being_answered = HashSet::new();
        let state = State { last: 0, running: 0, being_answered, bytes: 0, clients: VecDeque::new() };
        Arc::new(Self { class, max, state: Mutex::new(state), metrics })
    }

    /// Waits for a call's turn. None: the queue is full, and this client has most of it.
    pub async fn acquire(self: &Arc<Self>, asked: Asked) -> Option<Turn<A>> {
        let (client, question) = (asked.client, asked.question.clone());
        let mut queued = {
            let mut state = self.state.lock();
            // While there is room, none waits but those whose question is being answered.
            if state.running < self.max && !state.is_being_answered(question.as_ref()) {
                state.begin(question.as_ref());
                self.show(&state);
                return Some(Turn::Run(Permit { queue: Arc::clone(self), question }));
            }
            let (number, turn) = state.push(asked)?;
            self.show(&state);
            Queued { queue: self, client, number, turn }
        };
        // An error: it was removed to make room for a client with less, or the call that it followed has crashed.
        (&mut queued.turn).await.ok()
    }

    /// Grants permits to the next calls, as long as there are any.
    fn grant(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let call = if state.running < self.max { state.pop() } else { None };
            if let Some(call) = &call {
                state.begin(call.question.as_ref());
            }
            self.show(&state);
            drop(state);
            let Some(Call { question, grant, .. }) = call else { return };
            // Sent without the lock: a permit that has no receiver any more is dropped here, which takes the lock.
            let _ = grant.send(Turn::Run(Permit { queue: Arc::clone(self), question }));
        }
    }

    fn show(&self, state: &State<A>) {
        let queued = state.clients.iter().map(|client| client.calls.len()).sum();
        self.metrics.set_call_queue(self.class, state.running, queued);
    }
}

impl<A> State<A> {
    fn is_being_answered(&self, question: Option<&Question>) -> bool {
        question.is_some_and(|question| self.being_answered.contains(question))
    }

    /// Counts a call that begins.
    fn begin(&mut self, question: Option<&Question>) {
        self.running += 1;
        self.being_answered.extend(question.cloned());
    }

    /// Queues a call behind those of its client, removing calls of clients with more where there is no room.
    fn push(&mut self, asked: Asked) -> Option<(u64, oneshot::Receiver<Turn<A>>)> {
        let Asked { client, bytes, deadline, question } = asked;
        let bytes = CALL_BYTES + bytes;
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
        let (grant, turn) = oneshot::channel();
        let call = Call { number: self.last, bytes, deadline, question, grant };
        self.bytes += bytes;
        match self.clients.iter_mut().find(|queue| queue.client == client) {
            Some(queue) => {
                queue.bytes += bytes;
                queue.calls.push_back(call);
            }
            None => self.clients.push_back(ClientQueue { client, bytes, calls: VecDeque::from([call]) }),
        }
        Some((self.last, turn))
    }

    /// The next call whose question is not being answered. The one after it is another client's, if another client has
    /// one.
    fn pop(&mut self) -> Option<Call<A>> {
        let may_begin = |call: &Call<A>| !self.is_being_answered(call.question.as_ref());
        let found = self.clients.iter().map(|queue| queue.calls.iter().position(may_begin)).enumerate();
        let (place, of_client) = found.into_iter().find_map(|(place, found)| Some((place, found?)))?;
        let mut queue = self.clients.remove(place)?;
        let call = queue.calls.remove(of_client)?;
        queue.bytes -= call.bytes;
        self.bytes -= call.bytes;
        if !queue.calls.is_empty() {
            self.clients.push_back(queue);
        }
        Some(call)
    }

    /// Removes a call, if it is still queued.
    fn remove(&mut self, client: u64, number: u64) {
        let Some(queue) = self.clients.iter_mut().find(|queue| queue.client == client) else { return };
        let Ok(found) = queue.calls.binary_search_by_key(&number, |call| call.number) else { return };
        let bytes = queue.calls.remove(found).map_or(0, |call| call.bytes);
        queue.bytes -= bytes;
        self.bytes -= bytes;
        self.clients.retain(|queue| !queue.calls.is_empty());
    }

    /// Removes the calls with this question.
    fn take_all(&mut self, question: &Question) -> Vec<Call<A>> {
        let mut taken = Vec::new();
        for queue in &mut self.clients {
            let calls = std::mem::take(&mut queue.calls);
            let (same, others): (Vec<_>, Vec<_>) =
                calls.into_iter().partition(|call| call.question.as_ref() == Some(question));
            queue.calls = others.into();
            queue.bytes -= same.iter().map(|call| call.bytes).sum::<usize>();
            taken.extend(same);
        }
        self.bytes -= taken.iter().map(|call| call.bytes).sum::<usize>();
        self.clients.retain(|queue| !queue.calls.is_empty());
        taken
    }
}

impl<A> Permit<A> {
    /// Takes along the calls that wait with the same question. To be called before anything is read for the answer.
    pub fn take_followers(&self) -> Followers<A> {
        let Some(question) = &self.question else { return Followers(Vec::new()) };
        let mut state = self.queue.state.lock();
        let taken = state.take_all(question);
        self.queue.show(&state);
        Followers(taken)
    }
}

impl<A: Clone> Followers<A> {
    /// How many they are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Until when the most patient of them waits; None: there are none.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|call| call.deadline).max()
    }

    /// Gives each of them the answer.
    pub fn answer(self, answer: &A) {
        for call in self.0 {
            // An error: its caller has hung up.
            let _ = call.grant.send(Turn::Answered(answer.clone()));
        }
    }
}

impl<A> Drop for Queued<'_, A> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.remove(self.client, self.number);
        self.queue.show(&state);
    }
}

impl<A> Drop for Permit<A> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.running -= 1;
        if let Some(question) = &self.question {
            state.being_answered.remove(question);
        }
        drop(state);
        self.queue.grant();
    }
}

#[cfg(test)]
mod tests;
