//! Telemetry: metrics over HTTP, and spans over OTLP from the real program.

mod log;
mod metrics;
mod page;
mod spans;
