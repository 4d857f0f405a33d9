//! RabbitMQ: publishes every change, and consumes commands. docs/BROKER.md describes the guarantees.
//!
//! [`relay`] publishes the outbox as [`cloud_event`]s, on one server at a time. [`commands`] consumes commands on
//! every server; [`command`] executes one with the decoding and the statuses of gRPC. [`sign_outs`] consumes the
//! sign-outs of users and revokes their sessions. [`consumer`] is what both consumers share, [`part`] restarts
//! relay and consumers, [`link`] is the connection, [`format`] the two encodings of a message.
//!
//! The service does not depend on the broker: while it is away the outbox grows, reservations are made as usual,
//! and the health check is not affected.

pub mod cloud_event;
pub mod command;
pub mod commands;
pub mod consumer;
pub mod error;
pub mod format;
pub mod link;
pub mod part;
pub mod relay;
pub mod sign_outs;

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::sessions::Sessions,
    config::Config,
    ops::{Ledger, OpError},
};
use commands::Commands;
use relay::Relay;
use sign_outs::SignOuts;

/// Starts the configured parts in `tasks`, until `stop`.
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
    if !settings.is_configured() {
        return Ok(());
    }
    let (ledger, stop) = (|| ledger.clone(), || stop.clone());
    tasks.spawn(part::run("relay", ledger(), stop(), Relay::new(settings.clone(), ledger())));
    if !settings.commands.is_empty() {
        tasks.spawn(part::run("commands", ledger(), stop(), Commands::new(config, ledger())));
    }
    if !settings.sign_outs.is_empty()
        && let Some(sessions) = sessions
    {
        tasks.spawn(part::run("sign_outs", ledger(), stop(), SignOuts::new(settings.clone(), sessions)));
    }
    Ok(())
}
