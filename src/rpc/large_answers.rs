//! Large answers: lists and batches of reading take memory and database connections while they are made. So
//! many are made at once, and whoever asks for more waits in a line, in which clients have their turns one
//! after another: a client that asks for hundreds at once waits for itself. What waits is bounded too, and
//! where that is too much, the client that has most in line is refused.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::patience::CALL_BYTES;
use crate::telemetry::metrics::Metrics;

/// Bytes of calls that may wait in line.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// The large answers of a server.
pub struct LargeAnswers {
    max: usize,
    line: Mutex<Line>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Line {
    /// The number of the call that comes next.
    next: u64,
    /// Answers in the making.
    under_way: usize,
    /// Bytes of the calls that wait.
    bytes: usize,
    /// The clients whose calls wait, in the order of their turns.
    clients: VecDeque<Queue>,
}

/// The calls of one client that wait, in the order in which they came.
struct Queue {
    client: u64,
    bytes: usize,
    calls: VecDeque<Call>,
}

struct Call {
    number: u64,
    bytes: usize,
    turn: oneshot::Sender<Turn>,
}

/// An answer in the making, until this is dropped.
pub struct Turn(Arc<LargeAnswers>);

/// A call in line, until this is dropped.
struct Waiting<'l> {
    answers: &'l LargeAnswers,
    client: u64,
    number: u64,
    turn: oneshot::Receiver<Turn>,
}

impl LargeAnswers {
    /// Lets `max` of them be made at once.
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { max, line: Mutex::default(), metrics })
    }

    /// Waits for the turn of a call of this client, whose message has so many bytes. None: too much waits,
    /// and most of it for this client.
    pub async fn turn(self: &Arc<Self>, client: u64, bytes: usize) -> Option<Turn> {
        let mut waiting = {
            let mut line = self.lock();
            if line.clients.is_empty() && line.under_way < self.max {
                line.under_way += 1;
                self.show(&line);
                return Some(Turn(Arc::clone(self)));
            }
            let (number, turn) = line.get_in(client, CALL_BYTES + bytes)?;
            self.show(&line);
            Waiting { answers: self, client, number, turn }
        };
        // An error: it was refused after all.
        (&mut waiting.turn).await.ok()
    }

    /// Gives turns to those whose they are, as far as there are any.
    fn give_turns(self: &Arc<Self>) {
        loop {
            let mut line = self.lock();
            let call = if line.under_way < self.max { line.pop() } else { None };
            line.under_way += usize::from(call.is_some());
            self.show(&line);
            drop(line);
            // Not under the lock: whoever has just left drops the turn at once.
            match call {
                Some(call) => drop(call.turn.send(Turn(Arc::clone(self)))),
                None => return,
            }
        }
    }

    fn show(&self, line: &Line) {
        let waiting: usize = line.clients.iter().map(|queue| queue.calls.len()).sum();
        self.metrics.set_large_responses(line.under_way, waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Puts a call behind those of its client. None: it has most in line, and there is no room.
    fn get_in(&mut self, client: u64, bytes: usize) -> Option<(u64, oneshot::Receiver<Turn>)> {
        let own = self.clients.iter().find(|queue| queue.client == client).map_or(0, |queue| queue.bytes);
        while self.bytes + bytes > MAX_WAITING {
            let most = self.clients.iter_mut().max_by_key(|queue| queue.bytes)?;
            if most.bytes <= own + bytes {
                return None;
            }
            let (client, number) = (most.client, most.calls.back()?.number);
            self.leave(client, number);
        }
        self.next += 1;
        let (given, turn) = oneshot::channel();
        let call = Call { number: self.next, bytes, turn: given };
        self.bytes += bytes;
        match self.clients.iter_mut().find(|queue| queue.client == client) {
            Some(queue) => {
                queue.bytes += bytes;
                queue.calls.push_back(call);
            }
            None => self.clients.push_back(Queue { client, bytes, calls: VecDeque::from([call]) }),
        }
        Some((self.next, turn))
    }

    /// The call whose turn it is; the next will be another client's, if there is one.
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

    /// Takes a call out, if it is still there.
    fn leave(&mut self, client: u64, number: u64) {
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

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut line = self.answers.lock();
        line.leave(self.client, self.number);
        self.answers.show(&line);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.give_turns();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::BoxFuture};

    use super::*;

    fn answers(max: usize) -> Arc<LargeAnswers> {
        LargeAnswers::new(max, Arc::default())
    }

    fn asks(answers: &Arc<LargeAnswers>, client: u64, bytes: usize) -> BoxFuture<'static, Option<Turn>> {
        let answers = Arc::clone(answers);
        async move { answers.turn(client, bytes).await }.boxed()
    }

    /// Whether it has its turn, which is over then.
    fn had_its_turn(call: &mut BoxFuture<'static, Option<Turn>>) -> bool {
        call.now_or_never().flatten().is_some()
    }

    /// One that waits by now.
    fn waits(answers: &Arc<LargeAnswers>, client: u64, bytes: usize) -> BoxFuture<'static, Option<Turn>> {
        let mut call = asks(answers, client, bytes);
        assert!((&mut call).now_or_never().is_none());
        call
    }

    fn is_idle(answers: &LargeAnswers) -> bool {
        let line = answers.lock();
        (line.under_way, line.bytes, line.clients.len()) == (0, 0, 0)
    }

    #[test]
    fn so_many_are_made_at_once() {
        let answers = answers(2);
        let made: Vec<_> = (0..2).map(|_| asks(&answers, 1, 0).now_or_never().flatten().expect("a turn")).collect();
        let mut third = waits(&answers, 2, 0);
        drop(made);
        assert!(had_its_turn(&mut third));
        assert!(is_idle(&answers));
    }

    #[test]
    fn clients_have_their_turns_one_after_another() {
        let answers = answers(1);
        let made = asks(&answers, 1, 0).now_or_never();
        let mut greedy: Vec<_> = (0..100).map(|_| waits(&answers, 1, 0)).collect();
        let mut modest = waits(&answers, 2, 0);
        drop(made);
        // The first that came, then the other client's.
        assert!((&mut modest).now_or_never().is_none() && had_its_turn(&mut greedy[0]));
        assert!(greedy[1..].iter_mut().all(|call| call.now_or_never().is_none()) && had_its_turn(&mut modest));
        assert!(greedy[1..].iter_mut().all(had_its_turn));
    }

    #[test]
    fn who_leaves_the_line_keeps_nobody_waiting() {
        let answers = answers(1);
        let made = asks(&answers, 1, 0).now_or_never();
        let (gone, next, mut last) = (waits(&answers, 1, 0), waits(&answers, 1, 0), waits(&answers, 1, 0));
        drop(gone);
        assert_eq!(answers.lock().bytes, 2 * CALL_BYTES);
        drop(made);
        // This one was given its turn, and leaves without having taken it.
        drop(next);
        assert!(had_its_turn(&mut last));
        assert!(is_idle(&answers));
    }

    #[test]
    fn where_too_much_waits_the_client_with_most_of_it_is_refused() {
        let answers = answers(1);
        let made = asks(&answers, 1, 0).now_or_never();
        let mut greedy: Vec<_> = (0..MAX_WAITING / CALL_BYTES).map(|_| waits(&answers, 1, 0)).collect();
        assert!(asks(&answers, 1, 0).now_or_never().is_some_and(|turn| turn.is_none()), "it is refused");
        let modest = waits(&answers, 2, CALL_BYTES);
        // Two of its calls made room for one with a message.
        let refused = greedy.iter_mut().filter_map(|call| call.now_or_never()).filter(Option::is_none).count();
        assert_eq!(refused, 2);
        assert!(asks(&answers, 3, MAX_WAITING).now_or_never().is_some_and(|turn| turn.is_none()), "nor is that much");
        drop((made, modest, greedy));
        assert!(is_idle(&answers));
    }
}
