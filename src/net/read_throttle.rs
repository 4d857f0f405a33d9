//! Reads a connection in turns when calls are near their limit: see [`ConcurrencyLimit`].

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::oneshot::Receiver,
    time::{Timeout, timeout},
};

use super::concurrency_limit::{CHUNK, ConcurrencyLimit, ReadTurn};

/// The longest that a connection waits for its turn. Then it is read without one, and its calls may be refused.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// A connection whose calls count against a limit.
pub struct ReadThrottle<T> {
    /// The connection itself, for writing: only reads are throttled.
    pub inner: T,
    limit: Arc<ConcurrencyLimit>,
    state: State,
    /// How often connections waited.
    waits: IntCounter,
}

enum State {
    /// No turn is needed so far.
    Free,
    Waiting(Pin<Box<Timeout<Receiver<ReadTurn>>>>),
    /// One chunk may be read; with no turn after [`MAX_WAIT`].
    Reading(Option<ReadTurn>),
    /// The chunk has been read. Its calls are counted when the connection is read next, so the turn lasts until then.
    Read {
        _turn: Option<ReadTurn>,
    },
}

impl<T> ReadThrottle<T> {
    /// Throttles reads of `inner`.
    pub const fn new(inner: T, limit: Arc<ConcurrencyLimit>, waits: IntCounter) -> Self {
        Self { inner, limit, state: State::Free, waits }
    }

    /// Ready when the connection may be read.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.state = match &mut self.state {
                State::Reading(_) => return Poll::Ready(()),
                State::Read { .. } => State::Free,
                State::Free if !self.limit.is_near() => return Poll::Ready(()),
                State::Free => {
                    self.waits.inc();
                    State::Waiting(Box::pin(timeout(MAX_WAIT, self.limit.queue_read())))
                }
                State::Waiting(turn) => State::Reading(ready!(turn.as_mut().poll(cx)).ok().and_then(Result::ok)),
            };
        }
    }
}

// Hand-polled: tokio has no reader that waits for a permit before each read.
impl<T: AsyncRead + Unpin> AsyncRead for ReadThrottle<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx));
        let this = &mut *self;
        let State::Reading(turn) = &mut this.state else { return Pin::new(&mut this.inner).poll_read(cx, buffer) };
        let mut chunk = ReadBuf::new(buffer.initialize_unfilled_to(CHUNK.min(buffer.remaining())));
        let polled = Pin::new(&mut this.inner).poll_read(cx, &mut chunk);
        let length = chunk.filled().len();
        buffer.advance(length);
        // A connection that has sent nothing does not hold up the others.
        this.state = if polled.is_pending() { State::Free } else { State::Read { _turn: turn.take() } };
        polled
    }
}

#[cfg(test)]
mod tests;
