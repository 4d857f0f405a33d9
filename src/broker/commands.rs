//! The consumer of commands: executes each one, and replies where the sender asks for that.

use std::{sync::Arc, time::Duration};

use lapin::{message::Delivery, options::BasicAckOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    command::{self, CommandResult, Disposition},
    consumer,
    error::BrokerError,
    link::Link,
    part::Part,
};
use crate::{
    config::{Broker, Config, StrategyDefaults},
    ops::Ledger,
};

/// The consumer tag.
const TAG: &str = "reservd";

/// The consumer of one server.
pub struct Commands {
    settings: Broker,
    strategies: StrategyDefaults,
    deadline: Duration,
    ledger: Ledger,
}

impl Part for Commands {
    async fn work(
        self: &Arc<Self>,
        stop: &CancellationToken,
        mut is_up: impl FnMut() + Send,
    ) -> Result<(), BrokerError> {
        let link = Arc::new(Link::open(&self.settings, "commands").await?);
        consumer::ensure_queues(&link, &self.settings.commands).await?;
        let consumer = link.consume(&self.settings.commands, TAG, self.settings.prefetch).await?;
        is_up();
        let settle = |delivery| {
            let (this, link, stop) = (Arc::clone(self), Arc::clone(&link), stop.clone());
            async move { this.settle(&link, delivery, &stop).await }
        };
        consumer::settle_each(&link, consumer, stop, settle).await
    }
}

impl Commands {
    /// A consumer that executes commands with `ledger`.
    pub fn new(config: &Config, ledger: Ledger) -> Self {
        let (settings, strategies) = (config.broker.clone(), config.strategy);
        Self { settings, strategies, deadline: config.server.default_deadline, ledger }
    }

    /// Executes a command. Acknowledges its message once its effect is committed and the broker has the reply; until
    /// then the broker keeps it for another attempt.
    async fn settle(&self, link: &Link, delivery: Delivery, stop: &CancellationToken) -> Result<(), BrokerError> {
        let Some(result) = self.execute(&delivery, stop).await else {
            return consumer::requeue(&delivery).await;
        };
        self.count(&result);
        if let Disposition::DeadLetter(refused) = &result.disposition {
            consumer::dead_letter(link, &delivery, refused, &self.settings.commands).await?;
        }
        if let Some(reply) = command::reply(&delivery, &result, &self.settings) {
            let sent = link.send(reply).await?;
            // The sender no longer listens. It can repeat its request_id to get the outcome.
            let unroutable = link.confirmed(vec![sent]).await?.len() as u64;
            self.ledger.metrics().broker_replies_unroutable.inc_by(unroutable);
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Executes a command, with retries. None: give it back to the queue.
    async fn execute(&self, delivery: &Delivery, stop: &CancellationToken) -> Option<CommandResult> {
        consumer::retry(self.settings.retry_pause, stop, || async {
            let deadline = Instant::now() + self.deadline;
            let result = command::execute(delivery, &self.ledger, &self.settings, self.strategies, deadline).await;
            if !matches!(result.disposition, Disposition::Retry) {
                return Some(result);
            }
            self.count(&result);
            None
        })
        .await
    }

    fn count(&self, result: &CommandResult) {
        self.ledger.metrics().broker_commands.with_label_values(&[result.command, result.outcome.as_str()]).inc();
    }
}
