//! Takes commands from their queue, so many at once, and settles each message only when its outcome is
//! known for good.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    BrokerError, Part,
    command::{self, Ended, Ending},
    link::Link,
};
use crate::{
    config::{Broker, Config, StrategyDefaults},
    domain::backoff::full_jitter,
    ops::Ledger,
};

/// What the consumer calls itself.
const TAG: &str = "reservd";
/// How long a server keeps a command that it can't carry out now, before it gives it back to the queue.
/// Not shorter: quorum queues count how often a message was given back, and drop it in the end.
pub(super) const KEEP_LIMIT: Duration = Duration::from_secs(30);
/// The longest pause between two tries of one command.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The consumer of one server.
pub struct Commands {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Broker,
    strategies: StrategyDefaults,
    time_limit: Duration,
    ledger: Ledger,
}

impl Part for Commands {
    async fn work(&self, stop: &CancellationToken, mut is_up: impl FnMut() + Send) -> Result<(), BrokerError> {
        let settings = &self.shared.settings;
        let link = Arc::new(Link::open(settings, "commands").await?);
        link.ensure_queue(&settings.commands).await?;
        link.ensure_queue(&command::dead_letters(&settings.commands)).await?;
        let mut consumer = link.consume(&settings.commands, TAG, settings.prefetch).await?;
        is_up();
        let mut under_way: JoinSet<Result<(), BrokerError>> = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                delivery = consumer.next() => {
                    let Some(delivery) = delivery else { return Err(BrokerError::Silent("keep the consumer")) };
                    let (shared, link, stop) = (Arc::clone(&self.shared), Arc::clone(&link), stop.clone());
                    let delivery = delivery?;
                    under_way.spawn(async move { shared.settle(&link, delivery, &stop).await });
                }
                Some(done) = under_way.join_next() => done.unwrap_or(Ok(()))?,
            }
        }
        // What is under way may end; what has not begun goes to another server.
        link.end_consuming(TAG).await?;
        while let Some(done) = under_way.join_next().await {
            done.unwrap_or(Ok(()))?;
        }
        Ok(())
    }
}

impl Commands {
    /// A consumer that carries out what it gets with `ledger`.
    pub fn new(config: &Config, ledger: Ledger) -> Self {
        let (settings, strategies) = (config.broker.clone(), config.strategy);
        let time_limit = config.server.default_deadline;
        Self { shared: Arc::new(Shared { settings, strategies, time_limit, ledger }) }
    }
}

impl Shared {
    /// Carries one command out. Its message is acknowledged once its effect is committed and what is to be
    /// said of it is in the broker's hands; until then the broker keeps it for another try.
    async fn settle(&self, link: &Link, delivery: Delivery, stop: &CancellationToken) -> Result<(), BrokerError> {
        let Some(ended) = self.insist(&delivery, stop).await else {
            // Another server may be better off, or this one later.
            delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
            return Ok(());
        };
        let metrics = self.ledger.metrics();
        metrics.broker_commands.with_label_values(&[ended.command, ended.outcome.as_str()]).inc();
        if let Ending::Unreadable(refused) = &ended.ending {
            let letter = command::dead_letter(&delivery, refused, &self.settings.commands);
            let sent = link.send(letter).await?;
            if !link.confirmed(vec![sent]).await?.is_empty() {
                // Somebody removed the queue; it is made again with the next connection.
                return Err(BrokerError::Nack);
            }
        }
        if let Some(reply) = command::reply(&delivery, &ended) {
            let sent = link.send(reply).await?;
            // Who asked does not listen any more. Its request_id finds the outcome.
            metrics.broker_replies_unroutable.inc_by(link.confirmed(vec![sent]).await?.len() as u64);
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Tries until there is an outcome. None: it is not to be had here and now.
    async fn insist(&self, delivery: &Delivery, stop: &CancellationToken) -> Option<Ended> {
        let give_up = Instant::now() + KEEP_LIMIT;
        for tried in 0.. {
            let deadline = Instant::now() + self.time_limit;
            let ended = command::carry_out(delivery, &self.ledger, self.strategies, deadline).await;
            if !matches!(ended.ending, Ending::NotNow) {
                return Some(ended);
            }
            let metrics = self.ledger.metrics();
            metrics.broker_commands.with_label_values(&[ended.command, ended.outcome.as_str()]).inc();
            let first = self.settings.retry_pause;
            let pause = full_jitter(tried, first, LONGEST_PAUSE.max(first), fastrand::f64()).max(first / 2);
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(pause) => {}
            }
            if Instant::now() >= give_up {
                return None;
            }
        }
        None
    }
}
