//! Serves HTTP/2 on connections until the stop, and ends each connection in time: at the maximum age, and with its
//! client certificate. A connection ends with GOAWAY: its client makes new calls on another, and its calls are
//! finished. Those of a certificate that ended are cut off after a while.
//!
//! tonic's own server knows one age for all connections, and no end of a single one.

use std::{convert::Infallible, pin::pin, time::Duration};

use futures::future::pending;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::{client_certificates::ClientCertificate, connection::Connection};

/// The part of the maximum age by which a connection may end earlier, so that those of a start don't all end at once.
const JITTER: f64 = 0.2;

/// How connections end.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The longest age of a connection; zero: no limit.
    pub max_age: Duration,
    /// The time to finish for the calls of a certificate that ended.
    pub grace: Duration,
}

/// Serves `service` on `connections` until `stop`, and then finishes the calls that run.
pub async fn serve<S>(
    connections: impl Stream<Item = Connection>,
    http2: http2::Builder<TokioExecutor>,
    service: S,
    ends: Ends,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let open = TaskTracker::new();
    {
        // Dropped before the calls are finished: that closes the socket.
        let mut connections = pin!(connections);
        while let Some(Some(connection)) = stop.run_until_cancelled(connections.next()).await {
            open.spawn(serve_one(connection, http2.clone(), service.clone(), ends, stop.clone()));
        }
    }
    open.close();
    open.wait().await;
}

async fn serve_one<S>(
    connection: Connection,
    http2: http2::Builder<TokioExecutor>,
    service: S,
    ends: Ends,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let remote = connection.remote.clone();
    let certificate = remote.certificate.clone();
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(remote.clone());
        request.map(Body::new)
    });
    let served = http2.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
    let mut served = pin!(served);
    // An error in what follows: the client left, misbehaved, or was too slow.
    tokio::select! {
        _ = &mut served => return,
        () = stop.cancelled() => {}
        () = reach_age(ends.max_age) => {}
        () = certificate_ends(certificate.as_deref()) => {}
    }
    served.as_mut().graceful_shutdown();
    tokio::select! {
        _ = &mut served => {}
        () = async {
            certificate_ends(certificate.as_deref()).await;
            sleep(ends.grace).await;
        } => {}
    }
}

async fn reach_age(max: Duration) {
    match max {
        Duration::ZERO => pending().await,
        max => sleep(max.mul_f64(1.0 - JITTER * fastrand::f64())).await,
    }
}

async fn certificate_ends(certificate: Option<&ClientCertificate>) {
    match certificate {
        Some(certificate) => certificate.validity.ended().await,
        None => pending().await,
    }
}
