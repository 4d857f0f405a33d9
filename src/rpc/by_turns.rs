//! Connections that are read by turns where calls are more than enough: see [`Seats`].

use std::{
    io::Result,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::seats::{BITE, MAX_REST, Seats, Turn};

/// A connection that brings calls for these seats.
pub struct ByTurns<T> {
    /// The connection itself, for writing: only reading goes by turns.
    pub inner: T,
    seats: Arc<Seats>,
    state: State,
    rest: Option<Pin<Box<Sleep>>>,
    /// How often connections had to wait.
    rests: IntCounter,
}

enum State {
    /// It is read as it comes.
    Free,
    /// It waits for its turn.
    Resting(Arc<Turn>),
    /// It may read a bite.
    Reading(Arc<Turn>),
    /// It has read it; its calls are known when it wants to read on.
    Fed(Arc<Turn>),
}

impl<T> ByTurns<T> {
    /// Paces a connection.
    pub const fn new(inner: T, seats: Arc<Seats>, rests: IntCounter) -> Self {
        Self { inner, seats, state: State::Free, rest: None, rests }
    }

    /// Waits, where calls are more than enough, until it is this connection's turn, or has rested for
    /// long enough.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &self.state {
                State::Reading(_) => return Poll::Ready(()),
                State::Fed(turn) => {
                    self.seats.end(turn);
                    self.state = State::Free;
                }
                State::Free if !self.seats.are_short() => return Poll::Ready(()),
                State::Free => {
                    self.rests.inc();
                    self.state = State::Resting(self.seats.get_in_line());
                    let rest = self.rest.get_or_insert_with(|| Box::pin(sleep(MAX_REST)));
                    rest.as_mut().reset(Instant::now() + MAX_REST);
                }
                State::Resting(turn) => {
                    let is_given = turn.is_given(cx.waker());
                    if is_given || self.rest.as_mut().is_none_or(|rest| rest.as_mut().poll(cx).is_ready()) {
                        self.state = State::Reading(Arc::clone(turn));
                    } else {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<T> Drop for ByTurns<T> {
    fn drop(&mut self) {
        if let State::Resting(turn) | State::Reading(turn) | State::Fed(turn) = &self.state {
            self.seats.end(turn);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ByTurns<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        ready!(self.poll_turn(cx));
        let this = &mut *self;
        let State::Reading(turn) = &this.state else { return Pin::new(&mut this.inner).poll_read(cx, buffer) };
        let mut bite = ReadBuf::new(buffer.initialize_unfilled_to(BITE.min(buffer.remaining())));
        let polled = Pin::new(&mut this.inner).poll_read(cx, &mut bite);
        let length = bite.filled().len();
        buffer.advance(length);
        if polled.is_pending() {
            // Nothing to bring: the others are not to wait for it.
            this.seats.end(turn);
            this.state = State::Free;
        } else {
            this.state = State::Fed(Arc::clone(turn));
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::rpc::seats::Seat;

    const SENT: usize = 3 * BITE;

    /// A connection on which something was sent, and seats of which so many are taken.
    async fn connection(taken: usize) -> (ByTurns<DuplexStream>, DuplexStream, Vec<Seat>) {
        let seats = Seats::new(4);
        let taken: Vec<_> = (0..taken).filter_map(|_| seats.take()).collect();
        let (mut client, server) = duplex(SENT);
        client.write_all(&[1; SENT]).await.expect("it fits");
        let rests = IntCounter::new("rests", "rests").expect("a name");
        (ByTurns::new(server, seats, rests), client, taken)
    }

    #[tokio::test]
    async fn with_seats_enough_it_is_read_as_it_comes() {
        let (mut wire, _client, _taken) = connection(2).await;
        assert_eq!(wire.read(&mut [0; SENT]).await.expect("it is open"), SENT);
    }

    #[tokio::test]
    async fn without_it_is_read_a_bite_at_a_time_as_they_come_free() {
        let (mut wire, _client, mut taken) = connection(3).await;
        let mut buffer = [0; SENT];
        assert!(poll!(Box::pin(wire.read(&mut buffer))).is_pending());
        taken.pop();
        assert_eq!(wire.read(&mut buffer).await.expect("it is open"), BITE);
        taken.extend(wire.seats.take());
        assert!(poll!(Box::pin(wire.read(&mut buffer))).is_pending(), "its calls have taken the seats");
        taken.clear();
        assert_eq!(wire.read(&mut buffer).await.expect("it is open"), BITE);
        assert_eq!(wire.read(&mut buffer).await.expect("it is open"), BITE);
    }

    #[tokio::test]
    async fn it_rests_for_a_while_only() {
        let (mut wire, _client, _taken) = connection(4).await;
        let asked = Instant::now();
        assert_eq!(wire.read(&mut [0; SENT]).await.expect("it is open"), BITE);
        assert!(asked.elapsed() >= MAX_REST);
    }

    #[tokio::test]
    async fn one_that_has_nothing_to_bring_holds_up_nobody() {
        let seats = Seats::new(4);
        let mut taken: Vec<_> = (0..3).filter_map(|_| seats.take()).collect();
        let rests = IntCounter::new("rests", "rests").expect("a name");
        let (_silent, other) = duplex(SENT);
        let mut silent = ByTurns::new(other, Arc::clone(&seats), rests.clone());
        let (mut client, other) = duplex(SENT);
        let mut busy = ByTurns::new(other, seats, rests);
        client.write_all(&[1; 10]).await.expect("it fits");
        let (mut first, mut second) = ([0; 10], [0; 10]);
        let mut silence = Box::pin(silent.read(&mut first));
        let mut reading = Box::pin(busy.read(&mut second));
        assert!(poll!(&mut silence).is_pending() && poll!(&mut reading).is_pending());
        taken.pop();
        assert!(poll!(&mut silence).is_pending(), "nothing was sent on it");
        assert!(poll!(&mut reading).is_ready(), "it is the other's turn");
    }
}
