//! The watches of one caller: what each of them has, as it comes.

use futures::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::watch::{End, Told, Watch, Why};
use crate::{domain::ids::EventId, ops::Ledger};

/// One update of one event.
#[derive(Clone, Debug)]
pub struct Update {
    /// The event.
    pub event_id: EventId,
    /// What a watcher of it is told.
    pub told: Told,
}

/// Watches of several events.
pub struct Watches {
    ledger: Ledger,
    updates: SelectAll<BoxStream<'static, Result<Update, End>>>,
    until: Option<Instant>,
    told_at: Instant,
    _places: OwnedSemaphorePermit,
}

impl Watches {
    pub(super) fn new(
        ledger: &Ledger,
        watches: Vec<Watch>,
        until: Option<Instant>,
        places: OwnedSemaphorePermit,
    ) -> Self {
        let updates = stream::select_all(watches.into_iter().map(updates_of));
        Self { ledger: ledger.clone(), updates, until, told_at: Instant::now(), _places: places }
    }

    /// The next update, as soon as there is one; None where there was none for the interval of heartbeats.
    pub async fn next(&mut self) -> Result<Option<Update>, End> {
        let next = self.find_next().await;
        match &next {
            Ok(_) => self.told_at = Instant::now(),
            Err(end) => self.ledger.env.metrics.watch_ends.with_label_values(&[end.why.name()]).inc(),
        }
        next
    }

    async fn find_next(&mut self) -> Result<Option<Update>, End> {
        let shared = &self.ledger.env.feed.shared;
        let heartbeat = self.told_at + shared.settings.heartbeat_interval;
        let until = self.until;
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => Err(End { why: Why::Draining, at: None }),
            () = sleep_until(until.unwrap_or(heartbeat)), if until.is_some() => {
                Err(End { why: Why::Deadline, at: None })
            }
            update = self.updates.next() => match update {
                Some(update) => update.map(Some),
                None => Err(End { why: Why::Over, at: None }),
            },
            () = sleep_until(heartbeat) => Ok(None),
        }
    }
}

/// The updates of one watch, until its event is cancelled or the watch fails.
fn updates_of(watch: Watch) -> BoxStream<'static, Result<Update, End>> {
    let updates = stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.next().await {
            Ok(told) => Some((Ok(Update { event_id: watch.event_id().clone(), told }), Some(watch))),
            Err(End { why: Why::Over, .. }) => None,
            Err(end) => Some((Err(end), None)),
        }
    });
    updates.boxed()
}
