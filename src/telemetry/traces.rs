//! Spans and logs: `tracing` to the terminal or as JSON, and to OTLP if an endpoint is set.

use std::io::IsTerminal;

use opentelemetry::{KeyValue, global, propagation::Extractor, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt};
use uuid::Uuid;

use crate::config::{LogFormat, Telemetry};

/// Keeps the exporter alive; [`Traces::flush`] sends the remaining spans.
pub struct Traces {
    provider: Option<SdkTracerProvider>,
}

/// Why the setup of spans and logs failed.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// `telemetry.log` can't be parsed.
    #[error("telemetry.log {0:?} is not a log filter: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// `telemetry.otlp_endpoint` can't be used. The cause may quote it, so it is not printed.
    #[error("telemetry.otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) can't be used")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sets up spans and logs for the process. Must run inside the runtime.
pub fn init(settings: &Telemetry) -> Result<Traces, TracesError> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| TracesError::Filter(settings.log.clone(), error))?;
    let provider = if settings.otlp_endpoint.expose().is_empty() { None } else { Some(otlp(settings)?) };
    let spans = provider.as_ref().map(|provider| {
        // Tracing the exporter's own calls would cause another export for each export.
        let own_spans = EnvFilter::new("off,reservd=info");
        tracing_opentelemetry::layer().with_tracer(provider.tracer("reservd")).with_filter(own_spans)
    });
    tracing_subscriber::registry().with(spans).with(lines(settings.log_format).with_filter(filter)).init();
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(Traces { provider })
}

/// Whether log lines are JSON.
pub fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    }
}

type Stacked<S> = tracing_subscriber::layer::Layered<S, Registry>;

fn lines<S>(format: LogFormat) -> Box<dyn Layer<Stacked<S>> + Send + Sync>
where
    Stacked<S>: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    S: Send + Sync,
{
    let to_stderr = fmt::layer().with_writer(std::io::stderr);
    if is_json(format) {
        Box::new(to_stderr.json())
    } else {
        Box::new(to_stderr.with_ansi(std::io::stderr().is_terminal()))
    }
}

fn otlp(settings: &Telemetry) -> Result<SdkTracerProvider, TracesError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(settings.otlp_endpoint.expose()).build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource(&settings.service_name))
        .build())
}

/// What all spans are from. OTEL_RESOURCE_ATTRIBUTES adds to it, and may name the instance.
fn resource(service_name: &str) -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ];
    let detectors: [Box<dyn ResourceDetector>; 2] =
        [Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())];
    let builder = Resource::builder_empty().with_attributes(own).with_detectors(&detectors);
    builder.with_service_name(service_name.to_owned()).build()
}

impl Traces {
    /// Sends the remaining spans, outside the runtime's threads, which the exporter needs.
    pub async fn flush(self) {
        if let Some(provider) = self.provider {
            let _ = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        }
    }
}

/// Reads W3C trace context from the metadata of an RPC.
pub struct Carrier<'a>(pub &'a http::HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
