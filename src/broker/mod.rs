//! RabbitMQ: every change is published to it, and commands are taken from it. docs/BROKER.md tells users
//! what they may rely on.
//!
//! [`relay`] publishes what the outbox has, as the [`cloud_event`]s that it makes of changes; one server
//! at a time does. [`commands`] takes commands from a queue, one server beside the other; [`command`]
//! carries one out, through the same decoding and the same statuses as gRPC. [`sign_outs`] hears of users
//! that are signed out, and revokes their sessions. [`consuming`] is what those two have in common,
//! [`link`] the way to the broker, [`format`] the two ways to write a message.
//!
//! The service does not depend on any of it: while the broker is away the outbox grows, reservations are
//! made as ever, and health says nothing of it.

pub mod cloud_event;
pub mod command;
pub mod commands;
pub mod consuming;
pub mod format;
pub mod link;
pub mod relay;
pub mod sign_outs;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::sessions::Sessions,
    config::Config,
    domain::backoff::full_jitter,
    ops::{Ledger, OpError, relay::RelayError},
};
use commands::Commands;
use relay::Relay;
use sign_outs::SignOuts;

/// The pause before the way to the broker is tried again: a random time up to the first of these, which
/// doubles up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// No pause is shorter: a broker that refuses at once must not be asked a thousand times a second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no talking to the broker now.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It can't be reached, or has closed the connection or the channel.
    #[error("RabbitMQ: {0}")]
    Broker(#[from] lapin::Error),
    /// It did not answer in time.
    #[error("RabbitMQ took too long to {0}")]
    Silent(&'static str),
    /// It could not take charge of a message.
    #[error("RabbitMQ refused a message")]
    Nack,
    /// `broker.ca_file` can't be read.
    #[error("cannot read broker.ca_file: {0}")]
    CaFile(#[source] std::io::Error),
    /// The outbox can't be read, or its cursor not be moved.
    #[error("the outbox: {0}")]
    Outbox(#[from] RelayError),
}

/// Starts what the settings ask for in `tasks`; it ends with `stop`.
pub async fn start(
    config: &Config,
    ledger: &Ledger,
    sessions: Option<Arc<Sessions>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), OpError> {
    let settings = &config.broker;
    if settings.has_outbox() {
        ledger.ask_for_outbox().await?;
    }
    if settings.is_configured() {
        tasks.spawn(insist("relay", ledger.clone(), stop.clone(), Relay::new(settings.clone(), ledger.clone())));
    }
    if settings.is_configured() && !settings.commands.is_empty() {
        let commands = Commands::new(config, ledger.clone());
        tasks.spawn(insist("commands", ledger.clone(), stop.clone(), commands));
    }
    if settings.is_configured()
        && !settings.sign_outs.is_empty()
        && let Some(sessions) = sessions
    {
        let sign_outs = SignOuts::new(settings.clone(), sessions);
        tasks.spawn(insist("sign_outs", ledger.clone(), stop.clone(), sign_outs));
    }
    Ok(())
}

/// A part of the service that works as long as it can reach the broker.
trait Part: Send + Sync {
    /// Works until it is told to stop, or fails. `is_up` is called once it works.
    fn work(
        &self,
        stop: &CancellationToken,
        is_up: impl FnMut() + Send,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// Keeps a part at work: after each failure it is begun anew, with pauses that grow while it fails.
async fn insist(name: &'static str, ledger: Ledger, stop: CancellationToken, part: impl Part) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let Err(error) = part.work(&stop, || failures = 0).await else { continue };
        ledger.metrics().broker_failures.with_label_values(&[name]).inc();
        if failures == 0 {
            tracing::warn!(part = name, %error, "the way to the broker is lost; it is tried again");
        } else {
            tracing::debug!(part = name, %error, failures, "the way to the broker is still lost");
        }
        let pause = full_jitter(failures, PAUSES.0, PAUSES.1, fastrand::f64()).max(SHORTEST_PAUSE);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}
