//! The audit at the end of every run. A fast wrong answer is a failed run.

use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{Failure, pb::VerifyEventRequest, pick::event_id, stage::Stage};

/// Calls at once.
const AT_ONCE: usize = 8;
/// An event with millions of reservations takes its time.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
/// Problems that are reported; the others are counted.
const MAX_PROBLEMS: usize = 20;

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Events that VerifyEvent looked at.
    pub events: u64,
    /// Successes that callers were answered.
    pub acknowledged: u64,
    /// Calls whose outcome the callers do not know.
    pub unknown: u64,
    /// Changes that are recorded.
    pub changes: i64,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

impl Verified {
    /// Adds what was found on another stage.
    pub fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.changes += other.changes;
        self.problems.extend(other.problems);
    }
}

/// Audits a stage: VerifyEvent on each of the events of these numbers, the same by SQL on
/// all events at once, and that there is one change for each success that a caller was answered.
pub async fn verify(stage: &Stage, numbers: Vec<u32>, bar: &ProgressBar) -> Result<Verified, Failure> {
    bar.set_message(format!("VerifyEvent on {} events", numbers.len()));
    let client = stage.events().await?;
    let mut verified = Verified { acknowledged: stage.acknowledged, unknown: stage.unknown, ..Verified::default() };
    let mut answers = stream::iter(numbers)
        .map(|number| {
            let mut client = client.clone();
            async move {
                let mut request = stage.request(VerifyEventRequest { event_id: event_id(number) });
                request.set_timeout(DEADLINE);
                (number, client.verify_event(request).await)
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((number, answer)) = answers.next().await {
        let audit = answer.map_err(|status| format!("VerifyEvent of {}: {}", event_id(number), status.message()))?;
        verified.events += 1;
        let problems = audit.into_inner().problems.into_iter();
        verified.problems.extend(problems.map(|problem| format!("{}: {problem}", event_id(number))));
    }

    bar.set_message("adding up the rows of all events");
    let wrong: Vec<String> =
        sqlx::query_scalar(include_str!("sql/audit.sql")).fetch_all(&mut stage.sql().await?).await?;
    verified.problems.extend(wrong);
    verified.changes = stage.version_increments().await?;
    let least = i64::try_from(stage.acknowledged)?;
    let most = i64::try_from(stage.acknowledged + stage.unknown)?;
    if !(least..=most).contains(&verified.changes) {
        let problem = format!(
            "callers were answered {least} successes, {} calls had an unknown outcome, {} changes are recorded",
            stage.unknown, verified.changes
        );
        verified.problems.push(problem);
    }
    if verified.problems.len() > MAX_PROBLEMS {
        let more = verified.problems.len() - MAX_PROBLEMS;
        verified.problems.truncate(MAX_PROBLEMS);
        verified.problems.push(format!("and {more} more"));
    }
    Ok(verified)
}
