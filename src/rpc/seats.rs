//! Seats: how many calls are under way over all connections, and who may bring more.
//!
//! There are two answers to too many calls. Beyond `max` a call is refused, at once; but to read a call,
//! unpack it and write a no costs half of what it costs to carry one out, so a server that is asked ten
//! times what it can do would be busy with refusing. So before that, once three quarters of the seats are
//! taken, connections are read by turns, a bite at a time and as seats come free: HTTP/2 and TCP then
//! slow the senders down, which costs nothing here. A connection waits for its turn for [`MAX_REST`] at
//! the most, and then brings what is refused, if it must be.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;

/// The longest that a connection is not read because of others.
pub const MAX_REST: Duration = Duration::from_millis(100);
/// Bytes that one turn brings.
pub const BITE: usize = 2048;
/// Calls that such a bite is taken for: a small one is some hundred bytes, headers and all.
const CALLS_PER_BITE: usize = BITE / 100;

/// The seats of a server, and the connections that wait to bring calls for them.
pub struct Seats {
    max: usize,
    /// So many are taken, and reading goes by turns.
    enough: usize,
    taken: AtomicUsize,
    /// Connections in line. Kept beside it, so that a call that ends need not look into it.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Arc<Turn>>,
    /// Turns given and not over: their calls are not counted yet.
    given: usize,
}

/// A call under way, until this is dropped.
pub struct Seat(Arc<Seats>);

/// A connection's place in the line.
pub struct Turn {
    is_given: AtomicBool,
    waker: AtomicWaker,
}

impl Seats {
    /// Seats for `max` calls.
    pub fn new(max: usize) -> Arc<Self> {
        let enough = (max - max / 4).max(1);
        Arc::new(Self { max, enough, taken: AtomicUsize::new(0), waiting: AtomicUsize::new(0), line: Mutex::default() })
    }

    /// A seat for one call more; None: all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        Some(Seat(Arc::clone(self)))
    }

    /// Whether connections are read by turns: nobody jumps the line.
    pub fn are_short(&self) -> bool {
        self.waiting.load(SeqCst) > 0 || self.taken.load(SeqCst) >= self.enough
    }

    /// Gets into the line.
    pub fn get_in_line(&self) -> Arc<Turn> {
        let turn = Arc::new(Turn { is_given: AtomicBool::new(false), waker: AtomicWaker::new() });
        let mut line = self.lock();
        line.waiting.push_back(Arc::clone(&turn));
        // Before it looks for seats: who leaves one from now on looks into the line.
        self.waiting.store(line.waiting.len(), SeqCst);
        self.give_turns(line);
        turn
    }

    /// Ends a turn that was given, or waiting for one that was not.
    pub fn end(&self, turn: &Arc<Turn>) {
        let mut line = self.lock();
        if turn.is_given.load(SeqCst) {
            line.given -= 1;
        } else {
            line.waiting.retain(|other| !Arc::ptr_eq(other, turn));
            self.waiting.store(line.waiting.len(), SeqCst);
        }
        self.give_turns(line);
    }

    /// Gives turns to those first in line, as far as there are seats for what they may bring.
    fn give_turns(&self, mut line: MutexGuard<'_, Line>) {
        let mut wakers: Vec<Waker> = Vec::new();
        while self.taken.load(SeqCst) + line.given * CALLS_PER_BITE < self.enough
            && let Some(turn) = line.waiting.pop_front()
        {
            turn.is_given.store(true, SeqCst);
            line.given += 1;
            wakers.extend(turn.waker.take());
        }
        self.waiting.store(line.waiting.len(), SeqCst);
        drop(line);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self(seats) = self;
        let left = seats.taken.fetch_sub(1, SeqCst) - 1;
        if left < seats.enough && seats.waiting.load(SeqCst) > 0 {
            seats.give_turns(seats.lock());
        }
    }
}

impl Turn {
    /// Whether it was given. If not, `waker` is woken when it is.
    pub fn is_given(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.is_given.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_given(turn: &Turn) -> bool {
        turn.is_given(Waker::noop())
    }

    #[test]
    fn there_is_no_seat_beyond_the_last() {
        let seats = Seats::new(4);
        let taken: Vec<_> = (0..4).filter_map(|_| seats.take()).collect();
        assert_eq!(taken.len(), 4);
        assert!(seats.take().is_none());
        drop(taken);
        assert!(seats.take().is_some());
    }

    #[test]
    fn turns_are_given_in_order_and_only_as_seats_come_free() {
        let seats = Seats::new(100);
        let mut taken: Vec<_> = (0..75).filter_map(|_| seats.take()).collect();
        assert!(seats.are_short());
        let turns = [seats.get_in_line(), seats.get_in_line(), seats.get_in_line()];
        taken.pop();
        assert_eq!(turns.each_ref().map(|turn| is_given(turn)), [true, false, false]);
        // The first may bring twenty calls, so that there is no room for more.
        taken.truncate(60);
        assert_eq!(turns.each_ref().map(|turn| is_given(turn)), [true, false, false]);
        taken.truncate(50);
        assert_eq!(turns.each_ref().map(|turn| is_given(turn)), [true, true, false]);
        seats.end(&turns[0]);
        assert!(is_given(&turns[2]), "who ends a turn makes room for the next");
    }

    #[test]
    fn who_leaves_the_line_is_not_given_a_turn() {
        let seats = Seats::new(4);
        let mut taken: Vec<_> = (0..3).filter_map(|_| seats.take()).collect();
        let (gone, next) = (seats.get_in_line(), seats.get_in_line());
        seats.end(&gone);
        taken.pop();
        assert!(is_given(&next) && !is_given(&gone));
    }
}
