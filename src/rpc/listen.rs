//! Connections: accepted, counted by address, and where there is TLS, shaken hands with, each within its
//! time; before anything of HTTP/2 is made for them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{
    by_turns::ByTurns,
    handshake::Handshake,
    patience::{Client, Patience},
    seats::Seats,
    tls::Tls,
};
use crate::{
    auth::guard::{Guard, Peer, network_of},
    telemetry::metrics::Metrics,
};

/// Connections that are ready and not taken yet.
const READY: usize = 64;
/// TLS handshakes at once. Where there are more, the one that is longest under way makes room, unless that
/// is not long at all.
const MAX_HANDSHAKES: usize = 256;
const LEAST_HANDSHAKE: Duration = Duration::from_millis(100);
/// File descriptors that are left for everything else: the database, the broker, files.
const OTHER_FILES: u64 = 256;
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
    /// How long clients may keep the server waiting.
    pub patience: Arc<Patience>,
    /// Where refused connections are counted.
    pub metrics: Arc<Metrics>,
}

impl Door {
    /// The connections that come through, until the stream is dropped.
    pub fn open(self, listener: TcpListener) -> ReceiverStream<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(READY);
        let (patience, closed) = (Arc::clone(&self.patience), ready.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = patience.keep() => {}
                () = closed.closed() => {}
            }
        });
        tokio::spawn(Arc::new(self).accept_all(listener, ready));
        ReceiverStream::new(connections)
    }

    async fn accept_all(self: Arc<Self>, listener: TcpListener, ready: mpsc::Sender<io::Result<Connection>>) {
        let counts = Arc::new(Counts::default());
        let handshakes = Arc::new(Handshakes::default());
        let room = room_for_connections();
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
            let place = match counts.enter(network_of(address.ip()), self.max_per_address, room) {
                Ok(place) => place,
                Err(why) => {
                    self.metrics.connections_refused.with_label_values(&[why]).inc();
                    continue;
                }
            };
            let Some(tls) = &self.tls else {
                let connection = self.connection(Wire::Plain(stream), address, place);
                if ready.send(Ok(connection)).await.is_err() {
                    return;
                }
                continue;
            };
            let Some(turn) = handshakes.begin() else {
                self.metrics.connections_refused.with_label_values(&["too_many_handshakes"]).inc();
                continue;
            };
            let (door, acceptor, ready) = (Arc::clone(&self), tls.acceptor(), ready.clone());
            tokio::spawn(async move {
                let shaking = timeout(door.handshake_timeout, acceptor.accept(stream));
                let Some(shaken) = turn.given_up.run_until_cancelled(shaking).await else {
                    door.metrics.connections_refused.with_label_values(&["too_many_handshakes"]).inc();
                    return;
                };
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
        let certificate = certificate.map(|certificate| self.guard.check_certificate(certificate));
        let peer = Peer { address: address.ip(), certificate, last_token: Arc::default() };
        let wire = ByTurns::new(wire, Arc::clone(&self.seats), self.metrics.reads_throttled.clone());
        let caller = Caller { peer, client: self.patience.client() };
        Connection { wire: Handshake::new(wire, self.handshake_timeout), caller, has_gathered: false, _place: place }
    }
}

/// How many connections there may be, by the file descriptors that the system gives us: as many as it does.
fn room_for_connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit.saturating_sub(OTHER_FILES).max(limit / 2)).unwrap_or(usize::MAX)
}

/// TLS handshakes under way, in the order in which they began.
#[derive(Default)]
struct Handshakes(Mutex<Turns>);

#[derive(Default)]
struct Turns {
    next: u64,
    begun: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A handshake under way until this is dropped.
struct Turn {
    number: u64,
    given_up: CancellationToken,
    all: Arc<Handshakes>,
}

impl Handshakes {
    /// A turn, if need be in place of the handshake that began first.
    fn begin(self: &Arc<Self>) -> Option<Turn> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.begun.len() >= MAX_HANDSHAKES {
            let first = turns.begun.first_entry().filter(|first| first.get().0.elapsed() >= LEAST_HANDSHAKE)?;
            first.remove().1.cancel();
        }
        turns.next += 1;
        let (number, given_up) = (turns.next, CancellationToken::new());
        turns.begun.insert(number, (Instant::now(), given_up.clone()));
        Some(Turn { number, given_up, all: Arc::clone(self) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).begun.remove(&self.number);
    }
}

/// Connections at once.
#[derive(Default)]
struct Counts(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    all: usize,
    by_address: HashMap<IpAddr, u32>,
}

/// A connection that counts until this is dropped.
struct Place {
    address: IpAddr,
    counts: Arc<Counts>,
}

impl Counts {
    /// A place, or why there is none.
    fn enter(self: &Arc<Self>, address: IpAddr, limit: u32, room: usize) -> Result<Place, &'static str> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.all >= room {
            return Err("too_many");
        }
        let of_address = counted.by_address.entry(address).or_default();
        if limit > 0 && *of_address >= limit {
            return Err("too_many_of_address");
        }
        *of_address += 1;
        counted.all += 1;
        Ok(Place { address, counts: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.all -= 1;
        if let Some(of_address) = counted.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counted.by_address.remove(&self.address);
            }
        }
    }
}

/// Who is at the other end of a connection; in the extensions of each of its requests.
#[derive(Clone)]
pub struct Caller {
    /// As whom it may be known.
    pub peer: Peer,
    /// How long it keeps the server waiting.
    pub client: Arc<Client>,
}

/// A connection that came through the door.
pub struct Connection {
    wire: Handshake<ByTurns<Wire>>,
    caller: Caller,
    /// Whether the answers that are about to be written have waited for the others that are ready.
    has_gathered: bool,
    _place: Place,
}

impl Connection {
    /// Lets every task that is ready have its turn before something is written, once for each flush: the
    /// answers of a batch come at the same time from as many tasks, and without this the first would be
    /// written by itself, and each of the others too. There is no timer: where nobody else is ready, it
    /// is written at once.
    fn gather(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.has_gathered, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The end of a connection whose client keeps the server waiting.
    fn check(&self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.caller.client.is_gone(cx) {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the client kept the server waiting for too long")),
            false => Ok(()),
        }
    }

    /// Where it is written to. Turns and handshake are matters of reading.
    fn written(&mut self) -> Pin<&mut Wire> {
        Pin::new(&mut self.wire.inner.inner)
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
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
        self.check(cx)?;
        ready!(self.gather(cx));
        self.written().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        ready!(self.written().poll_flush(cx))?;
        self.has_gathered = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        ready!(self.gather(cx));
        self.written().poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.inner.inner.is_write_vectored()
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
