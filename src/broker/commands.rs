//! The consumer of commands: carries each out, and answers whoever asked for that.

use std::{sync::Arc, time::Duration};

use lapin::{message::Delivery, options::BasicAckOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    BrokerError, Part,
    command::{self, Ended, Ending},
    consuming,
    link::Link,
};
use crate::{
    config::{Broker, Config, StrategyDefaults},
    ops::Ledger,
};

/// What the consumer calls itself.
const TAG: &str = "reservd";

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
        consuming::ensure_queues(&link, &settings.commands).await?;
        let consumer = link.consume(&settings.commands, TAG, settings.prefetch).await?;
        is_up();
        let settle = |delivery| {
            let (shared, link, stop) = (Arc::clone(&self.shared), Arc::clone(&link), stop.clone());
            async move { shared.settle(&link, delivery, &stop).await }
        };
        consuming::settle_each(&link, consumer, stop, settle).await
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
            return consuming::give_back(&delivery).await;
        };
        self.count(&ended);
        if let Ending::Unreadable(refused) = &ended.ending {
            consuming::set_aside(link, &delivery, refused, &self.settings.commands).await?;
        }
        if let Some(reply) = command::reply(&delivery, &ended) {
            let sent = link.send(reply).await?;
            // Who asked does not listen any more. Its request_id finds the outcome.
            let unheard = link.confirmed(vec![sent]).await?.len() as u64;
            self.ledger.metrics().broker_replies_unroutable.inc_by(unheard);
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Tries until there is an outcome. None: it is not to be had here and now.
    async fn insist(&self, delivery: &Delivery, stop: &CancellationToken) -> Option<Ended> {
        consuming::insist(self.settings.retry_pause, stop, || async {
            let deadline = Instant::now() + self.time_limit;
            let ended = command::carry_out(delivery, &self.ledger, self.strategies, deadline).await;
            if !matches!(ended.ending, Ending::NotNow) {
                return Some(ended);
            }
            self.count(&ended);
            None
        })
        .await
    }

    fn count(&self, ended: &Ended) {
        self.ledger.metrics().broker_commands.with_label_values(&[ended.command, ended.outcome.as_str()]).inc();
    }
}
