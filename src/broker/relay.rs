//! Publishes the outbox: reads a window, sends its changes in order, waits until the broker has confirmed all of
//! them, and only then moves the cursor. A failure in between repeats the window: a change is delivered at least
//! once, and a consumer recognizes a copy by its id.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prometheus::IntGauge;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{cloud_event, error::BrokerError, link::Link, part::Part};
use crate::{
    config::Broker,
    domain::{change::Change, relay::Returned},
    ops::{Ledger, relay::Leader},
};

/// How often a standby server tries to become the leader.
const STANDBY_INTERVAL: Duration = Duration::from_millis(250);
/// How often returned changes that are due are published again.
const REPUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// The relay of one server.
pub struct Relay {
    settings: Broker,
    ledger: Ledger,
}

/// Marks this server as the leader in the metrics until it is dropped.
struct ActiveGauge(IntGauge);

impl ActiveGauge {
    fn begin(gauge: IntGauge) -> Self {
        gauge.set(1);
        Self(gauge)
    }
}

impl Drop for ActiveGauge {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

impl Part for Relay {
    async fn work(
        self: &Arc<Self>,
        stop: &CancellationToken,
        mut is_up: impl FnMut() + Send,
    ) -> Result<(), BrokerError> {
        // The broker first: a server that cannot reach it must not become the leader.
        let link = Link::open(&self.settings, "relay").await?;
        link.ensure_topic(&self.settings.exchange).await?;
        is_up();
        let Some(mut leader) = self.lead(&link, stop).await? else { return Ok(()) };
        tracing::info!(exchange = self.settings.exchange, "this server is the leader of the relay");
        let active = ActiveGauge::begin(self.ledger.metrics().relay_active.clone());
        let result = self.publish_until(&mut leader, &link, stop).await;
        drop(active);
        leader.step_down().await;
        result
    }
}

impl Relay {
    /// A relay of the outbox of `ledger`.
    pub const fn new(settings: Broker, ledger: Ledger) -> Self {
        Self { settings, ledger }
    }

    /// Waits until this server is the leader. None after `stop`.
    async fn lead(&self, link: &Link, stop: &CancellationToken) -> Result<Option<Leader>, BrokerError> {
        let mut candidate = self.ledger.stand_for_relay().await?;
        loop {
            match candidate.lead().await? {
                Ok(leader) => return Ok(Some(leader)),
                Err(again) => candidate = again,
            }
            if stop.run_until_cancelled(sleep(STANDBY_INTERVAL)).await.is_none() {
                return Ok(None);
            }
            if !link.is_up() {
                return Err(BrokerError::Timeout("keep the connection"));
            }
        }
    }

    async fn publish_until(
        &self,
        leader: &mut Leader,
        link: &Link,
        stop: &CancellationToken,
    ) -> Result<(), BrokerError> {
        let mut republished = Instant::now();
        while !stop.is_cancelled() {
            let portion = leader.next(self.settings.relay_batch).await?;
            if portion.is_idle {
                if republished.elapsed() >= REPUBLISH_INTERVAL {
                    self.republish(leader, link).await?;
                    republished = Instant::now();
                }
                if !link.is_up() {
                    return Err(BrokerError::Timeout("keep the connection"));
                }
                stop.run_until_cancelled(sleep(self.settings.relay_interval)).await;
                continue;
            }
            let returned = self.publish(link, &portion.changes).await?;
            leader.delivered(&portion, &returned).await?;
        }
        Ok(())
    }

    /// Sends the changes in order, and waits for their confirmations. Returns those that matched no queue.
    async fn publish(&self, link: &Link, changes: &[Change]) -> Result<Vec<Returned>, BrokerError> {
        let mut sent = Vec::with_capacity(changes.len());
        for change in changes {
            sent.push(link.send(cloud_event::message(change, &self.settings)).await?);
        }
        let ids = link.confirmed(sent).await?;
        let metrics = self.ledger.metrics();
        metrics.relay_delivered.inc_by((changes.len() - ids.len()) as u64);
        metrics.relay_returned.inc_by(ids.len() as u64);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let by_id: HashMap<_, _> =
            changes.iter().map(|change| (cloud_event::id(change.event_id(), change.version), change)).collect();
        Ok(ids.iter().filter_map(|id| by_id.get(id)).map(|change| cloud_event::returned(change)).collect())
    }

    async fn republish(&self, leader: &mut Leader, link: &Link) -> Result<(), BrokerError> {
        let changes = leader.to_republish().await?;
        if !changes.is_empty() {
            let all: Vec<_> = changes.iter().map(cloud_event::returned).collect();
            let returned = self.publish(link, &changes).await?;
            leader.republished(&all, &returned).await?;
        }
        Ok(())
    }
}
