//! Connections that never begin: one that is opened and then silent, or stops in the middle of its
//! first words, would stay for ever and hold up every graceful stop. HTTP/2's own pings begin only
//! after these words.

use std::{
    io::{Error, ErrorKind, Result},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};

/// The length of the words that every client begins with, "PRI * HTTP/2.0" and some more.
/// Source: RFC 9113, section 3.4.
const PREFACE: usize = 24;

/// A connection that fails if HTTP/2's preface is not received on it in time.
pub struct Handshake<T> {
    /// The connection itself, for writing: only what is read is watched.
    pub inner: T,
    limit: Option<Pin<Box<Sleep>>>,
    received: usize,
}

impl<T> Handshake<T> {
    /// Watches a connection that has just been accepted.
    pub fn new(inner: T, limit: Duration) -> Self {
        Self { inner, limit: Some(Box::pin(sleep(limit))), received: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Handshake<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.received = self.received.saturating_add(buffer.filled().len() - before);
        if self.received >= PREFACE {
            self.limit = None;
        } else if let Some(limit) = &mut self.limit
            && polled.is_pending()
            && limit.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the connection did not begin in time")));
        }
        polled
    }
}
