//! The message of ListEventCounts.

use std::time::Duration;

use tonic::Status;

use crate::{
    domain::ids::EventId,
    rpc::{fields::Fields, pb},
};

/// Samples of counters in one answer.
const MAX_SAMPLES: u64 = 1500;
const DEFAULT_SAMPLES: u64 = 60;
const MINUTE: Duration = Duration::from_secs(60);
const MAX_WINDOW: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// The event whose counters over time are asked for, how far back, and the time between two samples.
pub fn event_counts(message: &pb::ListEventCountsRequest) -> Result<(EventId, Duration, Duration), Status> {
    let mut fields = Fields::default();
    let event_id = fields.event_id("event_id", &message.event_id);
    let window = fields.span("window", message.window, &(MINUTE..=MAX_WINDOW));
    let window = window.map(|window| window.unwrap_or(60 * MINUTE));
    let step = fields.span("step", message.step, &(MINUTE..=MAX_WINDOW));
    let minutes = window.unwrap_or(MINUTE).as_secs().div_ceil(60);
    let step = step.map(|step| step.unwrap_or(MINUTE * u32::try_from(minutes.div_ceil(DEFAULT_SAMPLES)).unwrap_or(1)));
    if let Some(step) = step {
        if step.as_micros() % MINUTE.as_micros() != 0 {
            fields.reject("step", "must be a whole number of minutes");
        } else if minutes > MAX_SAMPLES * (step.as_secs() / 60) {
            fields.reject("step", format!("must be long enough for at most {MAX_SAMPLES} samples in the window"));
        }
    }
    let asked = || Some((event_id?, window?, step?));
    let asked = asked();
    fields.finish(asked)
}
