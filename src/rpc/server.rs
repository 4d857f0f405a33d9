//! The gRPC server: services, layers and limits.

use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    service::{LayerExt, Routes},
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server as reflection;
use tower::{Layer, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    caller_service::Callers,
    cost::{self, Cost},
    diagnostics_service::Diagnostics,
    event_service::Events,
    feed_service::Feed,
    layers::{
        admission::{Admission, Gate},
        auth::Auth,
        call_queue::CallQueue,
        deadline::Deadlines,
        explain::{explained, panicked},
        message_buffer::MessageBuffer,
        middleware::{Inner, layer},
        raw_body::with_raw_body,
        stream_limits::StreamLimit,
        trace::Trace,
        web::web,
    },
    methods,
    pb::{
        self, caller_service_server::CallerServiceServer,
        diagnostics::diagnostics_service_server::DiagnosticsServiceServer, event_service_server::EventServiceServer,
        feed_service_server::FeedServiceServer, reservation_service_server::ReservationServiceServer,
        session_service_server::SessionServiceServer, waitlist_service_server::WaitlistServiceServer,
    },
    reservation_service::Reservations,
    session_service::Sessions,
    waitlist_service::Waitlists,
};
use crate::{
    auth::guard::Guard,
    config::{self, Config},
    net::{
        concurrency_limit::ConcurrencyLimit,
        listener::Listener,
        serve::{self, Ends, Http1, Protocols},
        slow_client::SlowClients,
        tls::Tls,
    },
    ops::Ledger,
    telemetry::metrics::Metrics,
};

/// Streams that a client resets before they are accepted, and errors that it provokes, before its connection is closed
/// (CVE-2023-44487, CVE-2025-8671).
const MAX_RESETS: usize = 64;
/// Bytes of metadata of one call.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// The same of a request of HTTP/1.1, which is also the most that is written ahead to its client.
const MAX_HTTP1_BUFFER: usize = 16 * 1024;
/// Bytes that one connection may send ahead of what is read of it.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes before each message, gRPC's own.
const PREFIX: usize = 5;

/// Every service that the server has.
pub(super) const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// The parts that the server needs.
pub struct Parts {
    /// The use cases.
    pub ledger: Ledger,
    /// The metrics of its layers.
    pub metrics: Arc<Metrics>,
    /// Decides who may call what.
    pub guard: Arc<Guard>,
    /// TLS, if the settings have it.
    pub tls: Option<Arc<Tls>>,
    /// Whether the server takes calls.
    pub gate: Arc<Gate>,
}

/// Serves on `socket` until `stop`; then finishes the calls that run.
pub async fn serve(
    config: &Config,
    parts: Parts,
    health: HealthServer<impl Health>,
    socket: TcpListener,
    stop: CancellationToken,
) {
    let settings = &config.server;
    let concurrency = ConcurrencyLimit::new(settings.max_in_flight);
    let layers = layers(settings, &parts, &concurrency);
    let Parts { ledger, metrics, guard, tls, gate: _ } = parts;

    /// Each service takes gzip, and messages up to the limit, which also holds for what gzip unpacks to.
    macro_rules! limited {
        ($service:expr) => {
            $service.max_decoding_message_size(settings.max_request_bytes).accept_compressed(CompressionEncoding::Gzip)
        };
    }
    let sessions = Sessions::new(guard.sessions().cloned());
    let listener = Listener {
        tls,
        guard,
        concurrency,
        handshake_timeout: settings.handshake_timeout,
        max_per_address: config.limits.connections_per_address,
        slow_clients: SlowClients::new(settings.response_timeout, Arc::clone(&metrics)),
        metrics,
    };
    let mut routes = Routes::builder();
    routes
        .add_service(limited!(EventServiceServer::new(Events::new(
            ledger.clone(),
            config.strategy,
            config.events.booking_close
        ))))
        .add_service(limited!(ReservationServiceServer::new(Reservations::new(ledger.clone(), config.strategy))))
        .add_service(limited!(WaitlistServiceServer::new(Waitlists::new(ledger.clone(), config.strategy))))
        .add_service(limited!(FeedServiceServer::new(Feed::new(ledger.clone()))))
        .add_service(limited!(CallerServiceServer::new(Callers::new(ledger.clone()))))
        .add_service(limited!(SessionServiceServer::new(sessions)))
        .add_service(limited!(DiagnosticsServiceServer::new(Diagnostics::new(ledger, config.diagnostics))))
        .add_service(layer(StreamLimit::health()).named_layer(health));
    // Never an error: the descriptors are constants.
    if let (true, Ok(v1), Ok(v1alpha)) = (settings.reflection, reflection().build_v1(), reflection().build_v1alpha()) {
        let limit = layer(StreamLimit::reflection(settings.max_deadline));
        routes.add_service(limit.named_layer(v1)).add_service(limit.named_layer(v1alpha));
    }
    let service = web(&config.web).layer(layers.layer(routes.routes().prepare()));
    let http1 = (!config.web.allowed_origins.is_empty()).then(|| http1(settings));
    let protocols = Protocols { http2: http2(settings), http1 };
    let ends = Ends { max_age: settings.max_connection_age, grace: settings.drain_limit };
    serve::serve(listener.listen(socket), protocols, service, ends, stop).await;
}

fn http2(settings: &config::Server) -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_streams_per_connection)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .initial_connection_window_size(CONNECTION_WINDOW);
    http2
}

fn http1(settings: &config::Server) -> Http1 {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(settings.handshake_timeout).max_buf_size(MAX_HTTP1_BUFFER);
    Http1 { builder, write_limit: settings.response_timeout }
}

/// The layers around all services, the outermost first.
fn layers(
    settings: &config::Server,
    parts: &Parts,
    concurrency: &Arc<ConcurrencyLimit>,
) -> impl Layer<Routes, Service = impl Inner + use<>> + Clone + use<> {
    let metrics = &parts.metrics;
    let queue = |class, cost, max| CallQueue::new(class, cost::paths_of(cost), max, Arc::clone(metrics));
    ServiceBuilder::new()
        .layer(layer(Trace::new(Arc::clone(metrics), &DESCRIPTORS)))
        .map_response(|response: http::Response<_>| explained(response.map(Body::new)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(layer(Deadlines { default: settings.default_deadline, max: settings.max_deadline }))
        .layer(layer(Auth {
            guard: Arc::clone(&parts.guard),
            streams: methods::paths(&[pb::DESCRIPTORS], |it| it.server_streaming()),
        }))
        .layer(layer(MessageBuffer {
            streaming: methods::paths(&DESCRIPTORS, |it| it.client_streaming()),
            timeout: settings.message_timeout,
            max_bytes: settings.max_request_bytes + PREFIX,
        }))
        .layer(layer(queue("large", Cost::Large, settings.max_large_responses)))
        .layer(layer(queue("costly", Cost::Costly, settings.max_costly_calls).sharing_answers()))
        .layer(layer(Admission {
            limit: Arc::clone(concurrency),
            gate: Arc::clone(&parts.gate),
            metrics: Arc::clone(metrics),
        }))
        .map_response(with_raw_body)
}

/// Reflection of all services, with the error details, so that tools can print these.
fn reflection() -> reflection::Builder<'static> {
    let described = [pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET];
    let builder = reflection::Builder::configure();
    described.into_iter().fold(builder, reflection::Builder::register_encoded_file_descriptor_set)
}
