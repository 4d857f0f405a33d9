//! Publishes the outbox: reads a window, sends its changes one after the other, waits until the broker has
//! taken charge of all of them, and only then moves the cursor. What happens in between happens again: a
//! change is delivered at least once, and its id tells a copy.

use std::{collections::HashMap, time::Duration};

use prometheus::IntGauge;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{BrokerError, Part, cloud_event, link::Link};
use crate::{
    config::Broker,
    domain::{change::Change, relay::Returned},
    ops::{Ledger, relay::Leader},
};

/// How often a server that does not lead tries to.
const STANDBY_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is looked for returned changes that are to be published again.
const REPUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// The relay of one server.
pub struct Relay {
    settings: Broker,
    ledger: Ledger,
}

/// Tells the metrics who leads, for as long as it does.
struct Active(IntGauge);

impl Active {
    fn begin(gauge: IntGauge) -> Self {
        gauge.set(1);
        Self(gauge)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

impl Part for Relay {
    async fn work(&self, stop: &CancellationToken, mut is_up: impl FnMut() + Send) -> Result<(), BrokerError> {
        // The broker first: who can't reach it must not keep others from leading.
        let link = Link::open(&self.settings, "relay").await?;
        link.ensure_topic(&self.settings.exchange).await?;
        is_up();
        let Some(mut leader) = self.lead(&link, stop).await? else { return Ok(()) };
        tracing::info!(exchange = self.settings.exchange, "this server publishes the changes");
        let active = Active::begin(self.ledger.metrics().relay_active.clone());
        let result = self.publish_until(&mut leader, &link, stop).await;
        drop(active);
        leader.step_down().await;
        result
    }
}

impl Relay {
    /// A relay of what `ledger` has.
    pub fn new(settings: Broker, ledger: Ledger) -> Self {
        Self { settings, ledger }
    }

    /// Waits until this server leads. None: it is to stop.
    async fn lead(&self, link: &Link, stop: &CancellationToken) -> Result<Option<Leader>, BrokerError> {
        let mut candidate = self.ledger.stand_for_relay().await?;
        loop {
            match candidate.lead().await? {
                Ok(leader) => return Ok(Some(leader)),
                Err(again) => candidate = again,
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = sleep(STANDBY_INTERVAL) => {}
            }
            if !link.is_up() {
                return Err(BrokerError::Silent("keep the connection"));
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
                    return Err(BrokerError::Silent("keep the connection"));
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(self.settings.relay_interval) => {}
                }
                continue;
            }
            let returned = self.publish(link, &portion.changes).await?;
            leader.delivered(&portion, &returned).await?;
        }
        Ok(())
    }

    /// Sends the changes in order, and waits until the broker has them. Returns those that it had no
    /// queue for.
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
