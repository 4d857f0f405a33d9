//! The gRPC server: services, limits, layers, and a stop that ends.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, codec::CompressionEncoding, transport::Server};
use tonic_health::server::HealthReporter;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    diagnostics_service::Diagnostics,
    event_service::Events,
    layers::{
        admission::AdmissionLayer,
        aside::AsideLayer,
        auth::AuthLayer,
        deadline::DeadlineLayer,
        explained,
        large::{LargeLayer, large_answers},
        observe::{ObserveLayer, method_paths},
        pace::PaceLayer,
        panicked,
        streaming::with_own_body,
    },
    listen::Door,
    patience::Patience,
    pb::{
        self, diagnostics_service_server::DiagnosticsServiceServer, event_service_server::EventServiceServer,
        reservation_service_server::ReservationServiceServer, session_service_server::SessionServiceServer,
        waitlist_service_server::WaitlistServiceServer,
    },
    reservation_service::Reservations,
    seats::Seats,
    session_service::Sessions,
    tls::Tls,
    waitlist_service::Waitlists,
};
use crate::{auth::guard::Guard, config::Config, ops::Ledger, telemetry::metrics::Metrics};

/// Streams that a client resets before they are accepted, and errors that it provokes, before its
/// connection is closed (CVE-2023-44487, CVE-2025-8671).
const MAX_RESETS: usize = 64;
/// Bytes of metadata of one call.
const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Bytes before each message, gRPC's own.
const PREFIX: usize = 5;

/// What health checks may ask for: the server as a whole, and each service.
const SERVICES: [&str; 6] = [
    "",
    pb::event_service_server::SERVICE_NAME,
    pb::reservation_service_server::SERVICE_NAME,
    pb::waitlist_service_server::SERVICE_NAME,
    pb::session_service_server::SERVICE_NAME,
    pb::diagnostics_service_server::SERVICE_NAME,
];

/// What the server needs.
pub struct Parts {
    /// The use cases.
    pub ledger: Ledger,
    /// The metrics that its layers keep.
    pub metrics: Arc<Metrics>,
    /// Decides who is let in.
    pub guard: Arc<Guard>,
    /// TLS, if there is any.
    pub tls: Option<Arc<Tls>>,
    /// Set when new calls are to be refused.
    pub draining: Arc<AtomicBool>,
}

/// A health service that answers NOT_SERVING until [`set_serving`] says otherwise.
pub async fn health()
-> (HealthReporter, tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    set_serving(&reporter, false).await;
    (reporter, service)
}

/// Tells health checks, of the server as a whole and of each service, whether it serves.
pub async fn set_serving(reporter: &HealthReporter, serves: bool) {
    let status = if serves { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Ends the streams of those who watch the health, which would hold up the stop: they were told.
pub async fn end_watches(reporter: &HealthReporter) {
    for service in SERVICES {
        reporter.clone().clear_service_status(service).await;
    }
}

/// Serves on `listener` until `stop`; then finishes what is under way.
pub async fn serve(
    config: &Config,
    parts: Parts,
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let settings = &config.server;
    let Parts { ledger, metrics, guard, tls, draining } = parts;
    let descriptors = [
        pb::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let seats = Seats::new(settings.max_in_flight);
    let layers = ServiceBuilder::new()
        .layer(ObserveLayer::new(Arc::clone(&metrics), &descriptors))
        .map_response(|response: http::Response<_>| explained(response.map(Body::new)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DeadlineLayer { default: settings.default_deadline, max: settings.max_deadline })
        .layer(AuthLayer::new(Arc::clone(&guard), method_paths(&[pb::DESCRIPTORS], |it| it.server_streaming())))
        .layer(AsideLayer::new(settings.max_deadline))
        .layer(PaceLayer::new(
            method_paths(&descriptors, |it| it.client_streaming()),
            settings.message_timeout,
            settings.max_request_bytes + PREFIX,
        ))
        .layer(LargeLayer::new(large_answers(pb::DESCRIPTORS), settings.max_large_responses, Arc::clone(&metrics)))
        .layer(AdmissionLayer::new(Arc::clone(&seats), draining, Arc::clone(&metrics)))
        .map_response(with_own_body);

    /// Each service takes gzip, and messages up to the limit, which also holds for what gzip unpacks to.
    macro_rules! limited {
        ($service:expr) => {
            $service.max_decoding_message_size(settings.max_request_bytes).accept_compressed(CompressionEncoding::Gzip)
        };
    }
    let mut reflection_v1 = tonic_reflection::server::Builder::configure();
    let mut reflection_v1alpha = tonic_reflection::server::Builder::configure();
    // The error details among them, so that tools can print these.
    for encoded in [pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET] {
        reflection_v1 = reflection_v1.register_encoded_file_descriptor_set(encoded);
        reflection_v1alpha = reflection_v1alpha.register_encoded_file_descriptor_set(encoded);
    }

    let reflection = settings.reflection.then_some((reflection_v1, reflection_v1alpha));
    let (reflection_v1, reflection_v1alpha) = reflection.unzip();
    let sessions = Sessions::new(guard.sessions().cloned());
    let door = Door {
        tls,
        guard,
        seats,
        handshake_timeout: settings.handshake_timeout,
        max_per_address: config.limits.connections_per_address,
        patience: Patience::new(settings.response_timeout, Arc::clone(&metrics)),
        metrics,
    };
    Server::builder()
        .max_concurrent_streams(settings.max_streams_per_connection)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .http2_keepalive_interval(Some(settings.keepalive_interval))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout))
        .initial_connection_window_size(1024 * 1024)
        .layer(layers)
        .add_service(limited!(EventServiceServer::new(Events::new(ledger.clone()))))
        .add_service(limited!(ReservationServiceServer::new(Reservations::new(ledger.clone(), config.strategy))))
        .add_service(limited!(WaitlistServiceServer::new(Waitlists::new(ledger.clone(), config.strategy))))
        .add_service(limited!(SessionServiceServer::new(sessions)))
        .add_service(limited!(DiagnosticsServiceServer::new(Diagnostics::new(ledger, config.diagnostics))))
        .add_service(health)
        .add_optional_service(reflection_v1.and_then(|builder| builder.build_v1().ok()))
        .add_optional_service(reflection_v1alpha.and_then(|builder| builder.build_v1alpha().ok()))
        .serve_with_incoming_shutdown(door.open(listener), stop.cancelled_owned())
        .await
}

/// How long new work is still let in after health checks were told otherwise, so that load balancers
/// can follow.
pub const NOTICE: Duration = Duration::from_millis(100);
