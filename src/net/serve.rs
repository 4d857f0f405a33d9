//! Serves connections until the stop, and ends each in time: at the maximum age, and with its client certificate. A
//! connection ends with GOAWAY: its client makes new calls on another, and its calls are finished. Those of a
//! certificate that ended are cut off after a while.
//!
//! gRPC is HTTP/2. Browsers without TLS speak HTTP/1.1, which is served where the settings allow browsers; elsewhere it
//! gets a sentence.
//!
//! tonic's own server knows one age for all connections, and no end of a single one.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    time::Duration,
};

use futures::future::pending;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_stream::{Stream, StreamExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::{
    client_certificates::ClientCertificate,
    connection::{Connection, Protocol},
};

/// The part of the maximum age by which a connection may end earlier, so that those of a start don't all end at once.
const JITTER: f64 = 0.2;

/// The answer to HTTP/1.1 where it is not served, and the time and bytes for it to be read in.
const NOT_SERVED: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 121\r\n\r\n\
    reservd serves gRPC, over HTTP/2: this was HTTP/1.1. Browsers can call it by gRPC-Web, once web.allowed_origins \
    is set.\r\n";
const FAREWELL: Duration = Duration::from_secs(2);
const UNREAD: u64 = 64 * 1024;

/// The protocols that are served.
#[derive(Clone)]
pub struct Protocols {
    /// gRPC's own.
    pub http2: http2::Builder<TokioExecutor>,
    /// That of browsers; None: it gets a sentence.
    pub http1: Option<Http1>,
}

/// HTTP/1.1 and its bound on slow readers.
#[derive(Clone)]
pub struct Http1 {
    /// With the time for a request's header.
    pub builder: http1::Builder,
    /// How long a write may wait for the client.
    pub write_limit: Duration,
}

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
    protocols: Protocols,
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
            open.spawn(serve_one(connection, protocols.clone(), service.clone(), ends, stop.clone()));
        }
    }
    open.close();
    open.wait().await;
}

async fn serve_one<S>(mut connection: Connection, protocols: Protocols, service: S, ends: Ends, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let remote = connection.remote.clone();
    let certificate = remote.certificate.clone();
    let service = TowerToHyperService::new(service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(remote.clone());
        request.map(Body::new)
    }));
    // An error: the client left, or did not begin in time.
    let Some(Ok(protocol)) = stop.run_until_cancelled(connection.protocol()).await else { return };
    match (protocol, protocols.http1) {
        (Protocol::Http2, _) => {
            let served = protocols.http2.serve_connection(TokioIo::new(connection), service);
            finish(served, |served| served.graceful_shutdown(), certificate.as_deref(), ends, stop).await;
        }
        (Protocol::Http1, Some(Http1 { builder, write_limit })) => {
            connection.limit_writes(write_limit);
            let served = builder.serve_connection(TokioIo::new(connection), service);
            finish(served, |served| served.graceful_shutdown(), certificate.as_deref(), ends, stop).await;
        }
        (Protocol::Http1, None) => {
            // An error: the client has left.
            let _ = timeout(FAREWELL, explain(connection)).await;
        }
    }
}

/// Drives a connection to its end.
async fn finish<C: Future>(
    served: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    certificate: Option<&ClientCertificate>,
    ends: Ends,
    stop: CancellationToken,
) {
    let mut served = pin!(served);
    // An error in what follows: the client left, misbehaved, or was too slow.
    tokio::select! {
        _ = &mut served => return,
        () = stop.cancelled() => {}
        () = reach_age(ends.max_age) => {}
        () = certificate_ends(certificate) => {}
    }
    shut_down(served.as_mut());
    tokio::select! {
        _ = &mut served => {}
        () = async {
            certificate_ends(certificate).await;
            sleep(ends.grace).await;
        } => {}
    }
}

/// Says why HTTP/1.1 is not served. What the client still sends is read: closed with unread bytes, the connection would
/// be reset, and the answer lost.
async fn explain(mut connection: Connection) -> std::io::Result<()> {
    connection.write_all(NOT_SERVED).await?;
    connection.shutdown().await?;
    tokio::io::copy(&mut connection.take(UNREAD), &mut tokio::io::sink()).await?;
    Ok(())
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
