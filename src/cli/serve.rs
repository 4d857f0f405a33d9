//! `reservd serve`: serves until a signal or a failure. The first SIGTERM or SIGINT stops in order, the second one at once.

use prost_types::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    failure::{Ended, Exit, Failure},
    text,
};
use crate::{
    app::App,
    auth::clock,
    config::Config,
    telemetry::traces::{self, Traces},
};

/// Serves.
pub async fn serve(config: Config) -> Result<(), Failure> {
    // First, so that a signal during the start is not lost.
    let mut signals = Signals::new()?;
    let traces = traces::init(&config.telemetry)?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked")));
    let served = serve_until_signal(&config, &mut signals, traces).await;
    match served {
        // A line of text would not be one of the log.
        Err(failure) if traces::is_json(config.telemetry.log_format) => {
            let (exit, line) = (Exit::of(&failure), failure.to_string());
            if !line.is_empty() {
                tracing::error!("{line}");
            }
            Err(Ended { exit, line: String::new() }.into())
        }
        served => served,
    }
}

async fn serve_until_signal(config: &Config, signals: &mut Signals, traces: Traces) -> Result<(), Failure> {
    let started = tokio::select! {
        started = App::start(config) => started,
        _ = signals.next() => {
            tracing::info!("stopped");
            return Ok(());
        }
    };
    let mut app = started?;
    tokio::select! {
        () = app.failed() => {
            traces.flush().await;
            return Err("the server failed; see the log".into());
        }
        _ = signals.next() => {}
    }
    announce_stop(&app);
    let hurry = CancellationToken::new();
    let mut stopping = std::pin::pin!(async {
        app.stop_before(&hurry).await;
        // The collector of spans may be away.
        hurry.run_until_cancelled(traces.flush()).await;
    });
    let second = tokio::select! {
        () = &mut stopping => None,
        signal = signals.next() => Some(signal),
    };
    if let Some(number) = second {
        tracing::warn!("a second signal: stopping at once");
        hurry.cancel();
        stopping.await;
        tracing::info!("stopped");
        return Err(Ended { exit: Exit::Signal(number), line: String::new() }.into());
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says for how many calls the stop waits, and until when.
fn announce_stop(app: &App) {
    let limit = app.drain_limit();
    let end = clock::now().saturating_add(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX));
    let until = text::time(Some(Timestamp { seconds: end, nanos: 0 }));
    let (calls, limit) = (app.calls(), humantime::format_duration(limit));
    tracing::info!(calls, until, %limit, "stopping: waiting for the calls that run; a second signal stops at once");
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and returns its number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}
