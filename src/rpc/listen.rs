//! Connections: accepted, counted by address, and where there is TLS, shaken hands with, each within its
//! time; before anything of HTTP/2 is made for them.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{by_turns::ByTurns, handshake::Handshake, seats::Seats, tls::Tls};
use crate::{
    auth::guard::{Guard, Peer, network_of},
    telemetry::metrics::Metrics,
};

/// Connections that are ready and not taken yet.
const READY: usize = 64;
/// TLS handshakes at once: each costs the server a signature.
const MAX_HANDSHAKES: usize = 256;
/// The pause after the system refused a connection, for want of file descriptors for example.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// What stands at the door.
pub struct Door {
    /// TLS, if there is any.
    pub tls: Option<Arc<Tls>>,
    /// Says who a client certificate names.
    pub guard: Arc<Guard>,
    /// What its calls need; so it is read no faster than these come free.
    pub seats: Arc<Seats>,
    /// The time for a TLS handshake, and again for the beginning of HTTP/2.
    pub handshake_timeout: Duration,
    /// Connections at once from one address; 0: no limit.
    pub max_per_address: u32,
    /// Where refused connections are counted.
    pub metrics: Arc<Metrics>,
}

impl Door {
    /// The connections that come through, until the stream is dropped.
    pub fn open(self, listener: TcpListener) -> ReceiverStream<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(READY);
        tokio::spawn(Arc::new(self).accept_all(listener, ready));
        ReceiverStream::new(connections)
    }

    async fn accept_all(self: Arc<Self>, listener: TcpListener, ready: mpsc::Sender<io::Result<Connection>>) {
        let counts = Arc::new(Counts::default());
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(FAILURE_PAUSE).await;
                    continue;
                }
            };
            // Small messages must not wait for more; an error here costs speed only.
            let _ = stream.set_nodelay(true);
            let Some(place) = counts.enter(network_of(address.ip()), self.max_per_address) else {
                self.metrics.connections_refused.with_label_values(&["too_many_of_address"]).inc();
                continue;
            };
            let Some(tls) = &self.tls else {
                let connection = self.connection(Wire::Plain(stream), address, place);
                if ready.send(Ok(connection)).await.is_err() {
                    return;
                }
                continue;
            };
            let Ok(turn) = Arc::clone(&handshakes).try_acquire_owned() else {
                self.metrics.connections_refused.with_label_values(&["too_many_handshakes"]).inc();
                continue;
            };
            let (door, acceptor, ready) = (Arc::clone(&self), tls.acceptor(), ready.clone());
            tokio::spawn(async move {
                let shaken = timeout(door.handshake_timeout, acceptor.accept(stream)).await;
                drop(turn);
                match shaken {
                    Ok(Ok(stream)) => {
                        let connection = door.connection(Wire::Tls(Box::new(stream)), address, place);
                        // Nobody takes it any more where the server stops.
                        let _ = ready.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => door.note_failed(address, &error.to_string()),
                    Err(_) => door.note_failed(address, "it took too long"),
                }
            });
        }
    }

    fn note_failed(&self, address: SocketAddr, why: &str) {
        self.metrics.connections_refused.with_label_values(&["handshake"]).inc();
        // Every port scan makes one.
        tracing::debug!(%address, why, "a TLS handshake failed");
    }

    fn connection(&self, wire: Wire, address: SocketAddr, place: Place) -> Connection {
        let certificate = match &wire {
            Wire::Plain(_) => None,
            Wire::Tls(stream) => stream.get_ref().1.peer_certificates().and_then(<[_]>::first),
        };
        let certificate = certificate.map(|certificate| self.guard.of_certificate(certificate));
        let peer = Peer { address: address.ip(), certificate };
        let wire = ByTurns::new(wire, Arc::clone(&self.seats), self.metrics.reads_rested.clone());
        Connection { wire: Handshake::new(wire, self.handshake_timeout), peer, _place: place }
    }
}

/// Connections at once, by address.
#[derive(Default)]
struct Counts(Mutex<HashMap<IpAddr, u32>>);

/// A connection that counts until this is dropped.
struct Place {
    address: IpAddr,
    counts: Arc<Counts>,
}

impl Counts {
    fn enter(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if limit > 0 && *count >= limit {
            return None;
        }
        *count += 1;
        Some(Place { address, counts: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// A connection that came through the door.
pub struct Connection {
    wire: Handshake<ByTurns<Wire>>,
    peer: Peer,
    _place: Place,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, buffer)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
