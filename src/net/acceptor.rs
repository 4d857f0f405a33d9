//! Accepts connections on a socket, within a limit. Every listener has one, whatever is spoken on its connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::connection_limit::{ConnectionLimit, Slot};
use crate::{
    auth::{guard::network_of, rate_limit::LogLimit},
    telemetry::metrics::Metrics,
};

/// The pause after the system refused a connection, for example for want of file descriptors.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
/// Such failures logged per second.
const LOGGED_PER_SECOND: u32 = 1;

/// A socket, and the limit of its connections.
pub struct Acceptor {
    socket: TcpListener,
    limit: Arc<ConnectionLimit>,
    log_limit: LogLimit,
    metrics: Arc<Metrics>,
}

impl Acceptor {
    /// Accepts on `socket` within `limit`.
    pub fn new(socket: TcpListener, limit: Arc<ConnectionLimit>, metrics: Arc<Metrics>) -> Self {
        Self { socket, limit, log_limit: LogLimit::new(LOGGED_PER_SECOND, LOGGED_PER_SECOND), metrics }
    }

    /// The next connection within the limit. Those beyond it are closed at once, and counted.
    pub async fn accept(&self) -> (TcpStream, SocketAddr, Slot) {
        loop {
            let (stream, address) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(unlogged) = self.log_limit.take() {
                        tracing::warn!(%error, unlogged, "a connection could not be accepted");
                    }
                    sleep(FAILURE_PAUSE).await;
                    continue;
                }
            };
            match self.limit.try_open(network_of(address.ip())) {
                Ok(slot) => {
                    // Small messages must not wait for more; an error here costs speed only.
                    let _ = stream.set_nodelay(true);
                    return (stream, address, slot);
                }
                Err(why) => self.metrics.connections_refused.with_label_values(&[why]).inc(),
            }
        }
    }
}
