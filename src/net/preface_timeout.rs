//! A time limit for the client's HTTP/2 preface. A connection that opens and stays silent, or stops inside the
//! preface, would otherwise live for ever and delay every graceful stop: HTTP/2's own pings begin only after it.

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

/// The length of the bytes that every client begins with, "PRI * HTTP/2.0" and some more.
/// Source: RFC 9113, section 3.4.
const PREFACE: usize = 24;

/// A connection that fails unless the preface arrives in time.
pub struct PrefaceTimeout<T> {
    /// The connection itself, for writing: only reads are timed.
    pub inner: T,
    timer: Option<Pin<Box<Sleep>>>,
    received: usize,
}

impl<T> PrefaceTimeout<T> {
    /// Times a connection that has just been accepted.
    pub fn new(inner: T, limit: Duration) -> Self {
        Self { inner, timer: Some(Box::pin(sleep(limit))), received: 0 }
    }
}

// Hand-polled, as the reader inside it is. A client of HTTP/1.1 is timed by the header of its request.
impl<T: AsyncRead + Unpin> AsyncRead for PrefaceTimeout<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.received = self.received.saturating_add(buffer.filled().len() - before);
        if self.received >= PREFACE {
            self.timer = None;
        } else if let Some(timer) = &mut self.timer
            && polled.is_pending()
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the connection did not begin in time")));
        }
        polled
    }
}
