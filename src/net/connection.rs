//! An accepted connection, as HTTP reads and writes it: throttled, gathered, and closed when its client is too slow.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{
    client_certificates::ClientCertificate, connection_limit::Slot, preface_timeout::PrefaceTimeout,
    read_throttle::ReadThrottle, slow_client::Client,
};
use crate::auth::guard::Peer;

/// The bytes of a connection: plain or TLS.
pub type Wire = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What every client of HTTP/2 begins with.
/// Source: RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2, and so gRPC.
    Http2,
    /// HTTP/1.1, or something else that is not HTTP/2.
    Http1,
}

/// The remote end of a connection; in the extensions of each of its requests.
#[derive(Clone)]
pub struct Remote {
    /// Who it may be.
    pub peer: Peer,
    /// What it keeps the server waiting with.
    pub client: Arc<Client>,
    /// Its certificate, if it has one.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// An accepted connection.
pub struct Connection {
    wire: PrefaceTimeout<ReadThrottle<Wire>>,
    /// Its other end.
    pub remote: Remote,
    /// What was read to find the protocol, to be read again.
    replay: Bytes,
    /// Whether this write has waited for others that are ready.
    has_gathered: bool,
    /// How long a write may wait for the client; None: no limit of its own.
    write_limit: Option<Duration>,
    stalled: Option<Pin<Box<Sleep>>>,
    _slot: Slot,
}

impl Connection {
    /// Wraps what has been accepted.
    pub const fn new(wire: PrefaceTimeout<ReadThrottle<Wire>>, remote: Remote, slot: Slot) -> Self {
        Self { wire, remote, replay: Bytes::new(), has_gathered: false, write_limit: None, stalled: None, _slot: slot }
    }

    /// Finds the protocol by the first bytes, which a client of HTTP/2 sends without being asked. May be called once, and
    /// before anything else is read.
    pub async fn protocol(&mut self) -> Result<Protocol> {
        let mut first = BytesMut::with_capacity(HTTP2_PREFACE.len());
        while first.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&first) {
            let left = HTTP2_PREFACE.len() - first.len();
            if (&mut self.wire).take(left as u64).read_buf(&mut first).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let protocol = if first == HTTP2_PREFACE { Protocol::Http2 } else { Protocol::Http1 };
        self.replay = first.freeze();
        Ok(protocol)
    }

    /// Closes the connection when a write waits for this long.
    pub const fn limit_writes(&mut self, limit: Duration) {
        self.write_limit = Some(limit);
    }

    /// Fails once a write has waited for too long.
    fn timed(&mut self, cx: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match (&written, self.write_limit) {
            (Poll::Pending, Some(limit)) => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(stalled.as_mut().poll(cx));
                self.remote.client.disconnect();
                self.check(cx)?;
                Poll::Pending
            }
            _ => {
                self.stalled = None;
                written
            }
        }
    }

    /// Lets every task that is ready run before something is written, once for each flush: the answers of a batch
    /// come at the same moment from as many tasks, and each would otherwise be a write of its own. There is no
    /// timer: where no other task is ready, the write happens at once.
    fn gather(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.has_gathered, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Fails once the client is disconnected for being slow.
    fn check(&self, cx: &Context<'_>) -> Result<()> {
        match self.remote.client.is_disconnected(cx) {
            true => Err(Error::new(ErrorKind::TimedOut, "the client kept the server waiting for too long")),
            false => Ok(()),
        }
    }

    fn writer(&mut self) -> Pin<&mut Wire> {
        Pin::new(&mut self.wire.inner.inner)
    }
}

// Hand-polled, as is all that hyper takes for a connection: it checks and gathers inside reads and writes.
impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.check(cx)?;
        if self.replay.has_remaining() {
            let length = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.wire).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.check(cx)?;
        ready!(self.gather(cx));
        let written = self.writer().poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.check(cx)?;
        ready!(self.writer().poll_flush(cx))?;
        self.has_gathered = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.writer().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.check(cx)?;
        ready!(self.gather(cx));
        let written = self.writer().poll_write_vectored(cx, buffers);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.inner.inner.is_write_vectored()
    }
}
