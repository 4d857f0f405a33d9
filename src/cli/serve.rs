//! `reservd serve`: serves until SIGTERM, SIGINT or a failure.

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use crate::{app::App, config::Config, telemetry::traces};

pub async fn serve(config: Config) -> Result<(), Failure> {
    // First, so that a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let traces = traces::init(&config.telemetry)?;

    let started = tokio::select! {
        started = App::start(&config) => started,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let mut app = started?;
    eprintln!("reservd serves on {}", app.address);
    let failed = tokio::select! {
        () = app.failed() => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    tracing::info!("stopping");
    if !failed {
        app.stop().await;
    }
    traces.flush().await;
    if failed { Err("the server failed; see the log".into()) } else { Ok(()) }
}
