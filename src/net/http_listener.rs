//! Serves plain HTTP/1.1 to operators: the metrics, and pages like them. It has few connections and little time for
//! each, so that its clients take neither memory nor file descriptors from gRPC.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{acceptor::Acceptor, connection_limit::ConnectionLimit};
use crate::telemetry::metrics::Metrics;

/// Connections at once, and of one address. File descriptors are reserved for them: see `connection_limit`.
const MAX_CONNECTIONS: usize = 32;
const MAX_PER_ADDRESS: u32 = 8;
/// The time for a request to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a whole connection, which is one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// The time for the last requests once the service stops.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// A socket for HTTP/1.1.
pub struct HttpListener(Acceptor);

impl HttpListener {
    /// Listens on `socket`; `metrics` counts refused connections.
    pub fn new(socket: TcpListener, metrics: Arc<Metrics>) -> Self {
        Self(Acceptor::new(socket, ConnectionLimit::new(MAX_CONNECTIONS, MAX_PER_ADDRESS), metrics))
    }

    /// Serves `router` until `stop`.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
        // Dropped, it ends those that are left.
        let mut connections = JoinSet::new();
        while let Some((stream, _, slot)) = stop.run_until_cancelled(self.0.accept()).await {
            let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
            connections.spawn(async move {
                let _slot = slot;
                // An error: the client left, or was too slow.
                let _ = timeout(CONNECTION_TIMEOUT, served).await;
            });
            while connections.try_join_next().is_some() {}
        }
        drop(self.0);
        let _ = timeout(DRAIN_LIMIT, async { while connections.join_next().await.is_some() {} }).await;
    }
}
