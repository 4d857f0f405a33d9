//! Serves the metrics to Prometheus.

use std::time::Duration;

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::ops::Ledger;

/// How long a scrape may take once the service stops.
const LAST_SCRAPE: Duration = Duration::from_millis(200);

/// Serves `/metrics` until `stop`.
pub async fn serve_metrics(listener: TcpListener, ledger: Ledger, stop: CancellationToken) {
    let render = move || async move {
        let metrics = ledger.metrics();
        metrics.set_pool_usage(ledger.pool().usage());
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
    };
    let router = Router::new().route("/metrics", get(render));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let cut = async {
        stop.cancelled().await;
        sleep(LAST_SCRAPE).await;
    };
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                tracing::warn!(%error, "metrics are no longer served");
            }
        }
        // A silent connection would delay the stop.
        () = cut => {}
    }
}
