//! The counters of events over time: samples of those that this server has changed, off the path of any command.

use std::{
    collections::HashSet,
    mem::take,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Ledger, OpError};
use crate::{
    domain::{ids::EventId, refusal::Refusal},
    store::event_counts::{self, Sample},
};

/// Events of one statement.
const EVENTS_A_STEP: usize = 1000;
/// How long one statement may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// The events that this server has changed since it last sampled.
#[derive(Debug, Default)]
pub struct ChangedEvents(Mutex<HashSet<EventId>>);

impl ChangedEvents {
    /// Notes that an event has changed.
    pub fn note(&self, event_id: &EventId) {
        let mut changed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly it is there already.
        if !changed.contains(event_id) {
            changed.insert(event_id.clone());
        }
    }

    fn take(&self) -> HashSet<EventId> {
        take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ledger {
    /// Samples the counters of the events that this server has changed since the last call. Where that fails, those not
    /// sampled yet are sampled by the next call.
    pub async fn sample_event_counts(&self) -> Result<(), OpError> {
        let changed: Vec<_> = self.env.changed.take().into_iter().collect();
        let mut steps = changed.chunks(EVENTS_A_STEP);
        while let Some(step) = steps.next() {
            let (ids, limit) = (step.to_vec(), Instant::now() + STEP_LIMIT);
            let sampled = self.read(limit, move |conn| Box::pin(async move { event_counts::sample(conn, &ids).await }));
            if let Err(error) = sampled.await {
                step.iter().chain(steps.flatten()).for_each(|event_id| self.env.changed.note(event_id));
                return Err(error);
            }
        }
        Ok(())
    }

    /// An event's counters over the last `window`, one sample for each `step`, and the last as of now.
    pub async fn event_counts(
        &self,
        event_id: EventId,
        window: Duration,
        step: Duration,
        deadline: Instant,
    ) -> Result<Vec<Sample>, OpError> {
        let found = self.read(deadline, move |conn| {
            Box::pin(async move { event_counts::list(conn, &event_id, window, step).await })
        });
        found.await?.ok_or(OpError::Refused(Refusal::EventNotFound))
    }
}
