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
mod tests {
    use futures::poll;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;
    use crate::net::concurrency_limit::Permit;

    const SENT: usize = 3 * CHUNK;

    fn counter() -> IntCounter {
        IntCounter::new("waits", "waits").expect("a name")
    }

    /// A connection on which something was sent, and calls that run.
    async fn connection(running: usize) -> (ReadThrottle<DuplexStream>, DuplexStream, Vec<Permit>) {
        let limit = ConcurrencyLimit::new(4);
        let calls: Vec<_> = (0..running).filter_map(|_| limit.try_acquire()).collect();
        let (mut client, server) = duplex(SENT);
        client.write_all(&[1; SENT]).await.expect("it fits");
        (ReadThrottle::new(server, limit, counter()), client, calls)
    }

    #[tokio::test]
    async fn far_from_the_limit_reads_are_not_throttled() {
        let (mut wire, _client, _calls) = connection(2).await;
        assert_eq!(wire.read(&mut [0; SENT]).await.expect("it is open"), SENT);
    }

    #[tokio::test]
    async fn near_the_limit_a_chunk_is_read_as_calls_end() {
        let (mut wire, _client, mut calls) = connection(3).await;
        let mut buffer = [0; SENT];
        assert!(poll!(Box::pin(wire.read(&mut buffer))).is_pending());
        calls.pop();
        assert_eq!(wire.read(&mut buffer).await.expect("it is open"), CHUNK);
        calls.extend(wire.limit.try_acquire());
        assert!(poll!(Box::pin(wire.read(&mut buffer))).is_pending(), "its calls run");
        calls.clear();
        assert_eq!(wire.read(&mut buffer).await.expect("it is open"), CHUNK);
        assert_eq!(wire.read(&mut buffer).await.expect("it is open"), CHUNK);
    }

    #[tokio::test]
    async fn a_wait_is_bounded() {
        let (mut wire, _client, _calls) = connection(4).await;
        let asked = Instant::now();
        assert_eq!(wire.read(&mut [0; SENT]).await.expect("it is open"), CHUNK);
        assert!(asked.elapsed() >= MAX_WAIT);
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_hold_up_others() {
        let limit = ConcurrencyLimit::new(4);
        let mut calls: Vec<_> = (0..3).filter_map(|_| limit.try_acquire()).collect();
        let (_silent, other) = duplex(SENT);
        let mut silent = ReadThrottle::new(other, Arc::clone(&limit), counter());
        let (mut client, other) = duplex(SENT);
        let mut busy = ReadThrottle::new(other, limit, counter());
        client.write_all(&[1; 10]).await.expect("it fits");
        let (mut first, mut second) = ([0; 10], [0; 10]);
        let mut silence = Box::pin(silent.read(&mut first));
        let mut reading = Box::pin(busy.read(&mut second));
        assert!(poll!(&mut silence).is_pending() && poll!(&mut reading).is_pending());
        calls.pop();
        assert!(poll!(&mut silence).is_pending(), "nothing was sent on it");
        assert!(poll!(&mut reading).is_ready(), "it is the other's turn");
    }
}
