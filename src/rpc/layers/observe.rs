//! A span and the metrics of each RPC, from its first byte to its last.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request};
use http_body::Frame;
use opentelemetry::global;
use pin_project_lite::pin_project;
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tokio::time::Instant;
use tonic::{Code, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Response;
use crate::telemetry::{metrics::Metrics, traces::Carrier};

/// Observes every RPC.
#[derive(Clone)]
pub struct ObserveLayer {
    metrics: Arc<Metrics>,
    methods: Arc<HashSet<String>>,
}

impl ObserveLayer {
    /// Observes the RPCs of the services in `descriptors` by name; all others share one name, so that
    /// a caller can't make metrics up.
    pub fn new(metrics: Arc<Metrics>, descriptors: &[&[u8]]) -> Self {
        let methods = method_paths(descriptors, |_| true);
        Self { metrics, methods: Arc::new(methods) }
    }
}

/// The paths of those methods in encoded sets of descriptors that are `wanted`.
pub fn method_paths(encoded: &[&[u8]], wanted: impl Fn(&MethodDescriptorProto) -> bool) -> HashSet<String> {
    let files = encoded.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap_or_default().file);
    let mut paths = HashSet::new();
    for file in files {
        for service in &file.service {
            for method in service.method.iter().filter(|method| wanted(method)) {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

impl<S> Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    fn layer(&self, inner: S) -> ObserveService<S> {
        ObserveService { inner, settings: self.clone() }
    }
}

/// See [`ObserveLayer`].
#[derive(Clone)]
pub struct ObserveService<S> {
    inner: S,
    settings: ObserveLayer,
}

impl<S> Service<Request<Body>> for ObserveService<S>
where
    S: Service<Request<Body>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.settings.methods.get(request.uri().path()).map_or("other", |path| &path[1..]).to_owned();
        let span = rpc_span(&method, request.headers());
        let mut observed = Observed::begin(Arc::clone(&self.settings.metrics), method, span.clone());
        let work = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let response = work.await?;
            observed.note_status(response.headers());
            Ok(response.map(|body| Body::new(ObservedBody { body, observed })))
        })
    }
}

/// The RPC's span, a child of the caller's where the metadata has a W3C trace context. The probes of
/// load balancers have none: they would drown the rest.
fn rpc_span(method: &str, headers: &HeaderMap) -> Span {
    if method.starts_with("grpc.health.") {
        return Span::none();
    }
    let span = info_span!("rpc", otel.name = method, otel.kind = "server", rpc.system = "grpc", code = field::Empty);
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Carrier(headers)));
    // Without an exporter there is no span to have a parent.
    let _ = span.set_parent(parent);
    span
}

/// One RPC under way. Dropped before its status is known, its caller has hung up.
struct Observed {
    metrics: Arc<Metrics>,
    method: String,
    began: Instant,
    code: Code,
    span: Span,
}

impl Observed {
    fn begin(metrics: Arc<Metrics>, method: String, span: Span) -> Self {
        metrics.rpcs_in_flight.inc();
        Self { metrics, method, began: Instant::now(), code: Code::Cancelled, span }
    }

    /// Takes the status from headers or trailers that have it.
    fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Code::from_bytes(status.as_bytes());
        }
    }
}

impl Drop for Observed {
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

pin_project! {
    struct ObservedBody {
        #[pin]
        body: Body,
        observed: Observed,
    }
}

impl http_body::Body for ObservedBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            this.observed.note_status(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
