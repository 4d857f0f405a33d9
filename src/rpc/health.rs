//! The health service of gRPC: whether the server, and each of its services, is SERVING.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use super::pb;

/// What health checks may ask for: the server as a whole, and each service.
const SERVICES: [&str; 8] = [
    "",
    pb::event_service_server::SERVICE_NAME,
    pb::reservation_service_server::SERVICE_NAME,
    pb::waitlist_service_server::SERVICE_NAME,
    pb::session_service_server::SERVICE_NAME,
    pb::feed_service_server::SERVICE_NAME,
    pb::caller_service_server::SERVICE_NAME,
    pb::diagnostics::diagnostics_service_server::SERVICE_NAME,
];

/// A health service that answers NOT_SERVING until [`set_serving`] says otherwise.
pub async fn service() -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    set_serving(&reporter, false).await;
    (reporter, service)
}

/// Sets what health checks answer.
pub async fn set_serving(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Ends the health watches, which would delay the stop. Their callers have got the last status.
pub async fn end_watches(reporter: &HealthReporter) {
    for service in SERVICES {
        reporter.clone().clear_service_status(service).await;
    }
}
