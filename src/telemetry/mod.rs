//! What the service tells about itself: [`metrics`] for Prometheus, [`traces`] as spans and logs.

pub mod metrics;
pub mod traces;
