//! Accepts the connections of gRPC, within the limits that hold before HTTP/2 begins.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;

use super::{
    acceptor::Acceptor,
    concurrency_limit::ConcurrencyLimit,
    connection::{Connection, Remote, Wire},
    connection_limit::{ConnectionLimit, Slot},
    handshake_limit::HandshakeLimit,
    preface_timeout::PrefaceTimeout,
    read_throttle::ReadThrottle,
    slow_client::SlowClients,
    tls::Tls,
};
use crate::{
    auth::guard::{Guard, Peer},
    telemetry::metrics::Metrics,
};

/// Connections that are ready and that HTTP/2 has not taken yet.
const READY: usize = 64;

/// What accepts connections.
pub struct Listener {
    /// TLS, if the settings have it.
    pub tls: Option<Arc<Tls>>,
    /// Reads client certificates.
    pub guard: Arc<Guard>,
    /// The limit that throttles reads.
    pub concurrency: Arc<ConcurrencyLimit>,
    /// The time for a TLS handshake, and then for the preface of HTTP/2.
    pub handshake_timeout: Duration,
    /// Connections at once from one address; 0: no limit.
    pub max_per_address: u32,
    /// Closes connections of clients that keep the server waiting.
    pub slow_clients: Arc<SlowClients>,
    /// Counts refused connections.
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// The connections on `socket`, until the stream is dropped.
    pub fn listen(self, socket: TcpListener) -> ReceiverStream<Connection> {
        let (ready, connections) = mpsc::channel(READY);
        let (slow_clients, closed) = (Arc::clone(&self.slow_clients), ready.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = slow_clients.run() => {}
                () = closed.closed() => {}
            }
        });
        tokio::spawn(Arc::new(self).accept_all(socket, ready));
        ReceiverStream::new(connections)
    }

    async fn accept_all(self: Arc<Self>, socket: TcpListener, ready: mpsc::Sender<Connection>) {
        let limit = ConnectionLimit::by_file_descriptors(self.max_per_address);
        let acceptor = Acceptor::new(socket, limit, Arc::clone(&self.metrics));
        let handshakes = Arc::new(HandshakeLimit::default());
        loop {
            let (stream, address, slot) = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = ready.closed() => return,
            };
            let (listener, handshakes, ready) = (Arc::clone(&self), Arc::clone(&handshakes), ready.clone());
            tokio::spawn(async move {
                let prepared = tokio::select! {
                    prepared = listener.prepare(stream, address, slot, &handshakes) => prepared,
                    () = ready.closed() => None,
                };
                if let Some(connection) = prepared {
                    // An error: the server stops, and takes no more connections.
                    let _ = ready.send(connection).await;
                }
            });
        }
    }

    /// Makes a connection ready for HTTP/2; None if TLS fails.
    async fn prepare(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        slot: Slot,
        handshakes: &Arc<HandshakeLimit>,
    ) -> Option<Connection> {
        let wire: Wire = match &self.tls {
            None => Either::Left(stream),
            Some(tls) => Either::Right(Box::new(self.handshake(tls, stream, address, handshakes).await?)),
        };
        let certificate = match (&wire, &self.tls) {
            (Either::Right(stream), Some(tls)) => stream.get_ref().1.peer_certificates().and_then(|it| tls.admit(it)),
            _ => None,
        };
        let checked = certificate.as_ref().and_then(|certificate| {
            certificate.own().map(|own| self.guard.check_certificate(own, &certificate.validity))
        });
        let peer = Peer { address: address.ip(), certificate: checked, last_token: Arc::default() };
        let wire = ReadThrottle::new(wire, Arc::clone(&self.concurrency), self.metrics.reads_throttled.clone());
        let wire = PrefaceTimeout::new(wire, self.handshake_timeout);
        Some(Connection::new(wire, Remote { peer, client: self.slow_clients.connect(), certificate }, slot))
    }

    async fn handshake(
        &self,
        tls: &Tls,
        stream: TcpStream,
        address: SocketAddr,
        handshakes: &Arc<HandshakeLimit>,
    ) -> Option<TlsStream<TcpStream>> {
        let Some(handshake) = handshakes.begin() else {
            self.note_refused("too_many_handshakes");
            return None;
        };
        let accepted = timeout(self.handshake_timeout, tls.acceptor().accept(stream));
        let why = match handshake.evicted.run_until_cancelled(accepted).await {
            Some(Ok(Ok(stream))) => return Some(stream),
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(_)) => "it took too long".to_owned(),
            None => {
                self.note_refused("too_many_handshakes");
                return None;
            }
        };
        self.note_refused("handshake");
        // Debug only: every port scan makes one.
        tracing::debug!(%address, why, "a TLS handshake failed");
        None
    }

    fn note_refused(&self, why: &str) {
        self.metrics.connections_refused.with_label_values(&[why]).inc();
    }
}
