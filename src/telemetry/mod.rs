//! Observability: [`metrics`] for Prometheus, [`traces`] for spans and logs.

pub mod metrics;
pub mod traces;

use std::error::Error;

/// An error with all its causes, for the log.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
