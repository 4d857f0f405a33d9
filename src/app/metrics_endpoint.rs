//! The metrics, for Prometheus.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use tokio_util::sync::CancellationToken;

use crate::{net::http_listener::HttpListener, ops::Ledger};

/// Serves `/metrics` until `stop`.
pub async fn serve_metrics(listener: HttpListener, ledger: Ledger, stop: CancellationToken) {
    let render = move || async move {
        let metrics = ledger.metrics();
        metrics.set_pool_usage(ledger.pool().usage());
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
    };
    listener.serve(Router::new().route("/metrics", get(render)), stop).await;
}
