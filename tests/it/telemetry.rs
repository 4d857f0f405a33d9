//! Telemetry: metrics over HTTP, and spans over OTLP from the real program.

mod metrics;
mod page;
mod spans;
