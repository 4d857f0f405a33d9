//! The span and the metrics of each RPC, from its first byte to its last.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use opentelemetry::global;
use tokio::time::Instant;
use tonic::{Code, body::Body};
use tracing::{Instrument, Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    super::methods,
    middleware::{Answer, Inner, Middleware},
};
use crate::telemetry::{metrics::Metrics, traces::Carrier};

/// Traces every RPC.
pub struct Trace {
    metrics: Arc<Metrics>,
    methods: HashSet<String>,
}

impl Trace {
    /// Traces the RPCs of the services in `descriptors` by name. All others share one name, so that no caller can make
    /// metrics up.
    pub fn new(metrics: Arc<Metrics>, descriptors: &[&[u8]]) -> Self {
        Self { metrics, methods: methods::paths(descriptors, |_| true) }
    }
}

impl Middleware for Trace {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        let method = self.methods.get(request.uri().path()).map_or("other", |path| &path[1..]).to_owned();
        let span = rpc_span(&method, request.headers());
        let mut call = TracedCall::begin(Arc::clone(&self.metrics), method, span.clone());
        let work = inner.call(request).instrument(span);
        Box::pin(async move {
            let response = work.await?;
            call.note_status(response.headers());
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame: Frame<Bytes>| {
                    frame.trailers_ref().into_iter().for_each(|trailers| call.note_status(trailers));
                    frame
                }))
            }))
        })
    }
}

/// The RPC's span, a child of the caller's if the metadata has a W3C trace context. Health checks have no span: those
/// of load balancers would drown the rest.
fn rpc_span(method: &str, headers: &HeaderMap) -> Span {
    if method.starts_with("grpc.health.") {
        return Span::none();
    }
    let span = info_span!("rpc", otel.name = method, otel.kind = "server", rpc.system = "grpc", code = field::Empty);
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Carrier(headers)));
    // An error: without an exporter there is no span that could have a parent.
    let _ = span.set_parent(parent);
    span
}

/// A running RPC. If it is dropped before its status is known, its caller has hung up.
struct TracedCall {
    metrics: Arc<Metrics>,
    method: String,
    began: Instant,
    code: Code,
    span: Span,
}

impl TracedCall {
    fn begin(metrics: Arc<Metrics>, method: String, span: Span) -> Self {
        metrics.rpcs_in_flight.inc();
        Self { metrics, method, began: Instant::now(), code: Code::Cancelled, span }
    }

    /// Takes the status from headers or trailers, if they have it.
    fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Code::from_bytes(status.as_bytes());
        }
    }
}

impl Drop for TracedCall {
    fn drop(&mut self) {
        let code = code_name(self.code);
        self.span.record("code", code);
        self.metrics.rpcs_in_flight.dec();
        self.metrics.rpcs.with_label_values(&[&self.method, code]).inc();
        self.metrics.rpc_seconds.with_label_values(&[&self.method]).observe(self.began.elapsed().as_secs_f64());
    }
}

const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
