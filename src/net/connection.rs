//! An accepted connection, as HTTP/2 reads and writes it: throttled, gathered, and closed when its client is too slow.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
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
    /// Whether this write has waited for others that are ready.
    has_gathered: bool,
    _slot: Slot,
}

impl Connection {
    /// Wraps what has been accepted.
    pub const fn new(wire: PrefaceTimeout<ReadThrottle<Wire>>, remote: Remote, slot: Slot) -> Self {
        Self { wire, remote, has_gathered: false, _slot: slot }
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
        Pin::new(&mut self.wire).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.check(cx)?;
        ready!(self.gather(cx));
        self.writer().poll_write(cx, bytes)
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
        self.writer().poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.inner.inner.is_write_vectored()
    }
}
