//! Why a use case has no result.

use super::execute::Job;
use crate::{domain::refusal::Refusal, store::StoreError};

/// The unique constraint that is the last line against booking one user twice.
const ONE_LIVE_PER_USER: &str = "reservations_one_live_per_user";
/// The unique index that is the last line against one user waiting twice.
const ONE_WAITING_PER_USER: &str = "waitlist_one_per_user";

/// Why a use case has no result.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The rules say no. Nothing was changed.
    #[error("refused: {}", .0.reason())]
    Refused(Refusal),
    /// Others changed the event between each reading and writing. Nothing was changed.
    #[error("the event changed under each of {attempts} attempts")]
    Contention {
        /// How often it was tried.
        attempts: u32,
    },
    /// The event's row lock was not to be had in time. Nothing was changed.
    #[error("the event's row lock was not available")]
    LockTimeout,
    /// The time was over. Nothing was changed, unless a commit was already under way: the request_id
    /// tells.
    #[error("the deadline passed")]
    Deadline,
    /// The database can't be used now. If `outcome_unknown`, a commit was under way: the request_id
    /// tells.
    #[error("the database is unavailable")]
    Unavailable {
        /// Whether the change may have been made.
        outcome_unknown: bool,
        /// What the database or the way to it said. None: the log has it already, once for a whole batch.
        #[source]
        cause: Option<StoreError>,
    },
    /// The service refuses to do this now.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// A defect.
    #[error("unexpected: {0}")]
    Unexpected(#[source] StoreError),
    /// A defect: the batch that the command was in has vanished with its answer.
    #[error("the answer was lost")]
    Lost,
    /// A defect: the task panicked.
    #[error("the task failed: {0}")]
    Crashed(#[source] tokio::task::JoinError),
}

impl From<Refusal> for OpError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LockTimeout => Self::LockTimeout,
            StoreError::Deadline => Self::Deadline,
            StoreError::OutcomeUnknown(_) => Self::Unavailable { outcome_unknown: true, cause: Some(error) },
            StoreError::PoolExhausted => Self::Busy("no database connection came free in time"),
            StoreError::Unavailable(_) | StoreError::Repeat(_) => {
                Self::Unavailable { outcome_unknown: false, cause: Some(error) }
            }
            StoreError::Unique(constraint) if constraint == ONE_LIVE_PER_USER => {
                Self::Refused(Refusal::AlreadyReserved(None))
            }
            StoreError::Unique(constraint) if constraint == ONE_WAITING_PER_USER => {
                Self::Refused(Refusal::AlreadyWaiting(None))
            }
            StoreError::Unique(_) | StoreError::Check(_) | StoreError::Unexpected(_) => Self::Unexpected(error),
        }
    }
}

impl OpError {
    /// The same, for a command of which an earlier attempt may have been committed: that nothing was changed is not known.
    pub(super) fn about(self, job: &impl Job) -> Self {
        match self {
            Self::Unavailable { cause, .. } if job.is_unsure() => Self::Unavailable { outcome_unknown: true, cause },
            Self::LockTimeout | Self::Contention { .. } | Self::Busy(_) if job.is_unsure() => {
                Self::Unavailable { outcome_unknown: true, cause: None }
            }
            other => other,
        }
    }

    /// The same, where the log has its cause already.
    pub(super) fn logged(self) -> Self {
        match self {
            Self::Unavailable { outcome_unknown, .. } => Self::Unavailable { outcome_unknown, cause: None },
            other => other,
        }
    }

    /// The reason, as clients see it in `ErrorInfo` and operators in the metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Contention { .. } => "VERSION_CONTENTION",
            Self::LockTimeout => "LOCK_TIMEOUT",
            Self::Deadline => "DEADLINE",
            Self::Unavailable { .. } => "DATABASE_UNAVAILABLE",
            Self::Busy(_) => "OVERLOADED",
            Self::Unexpected(_) | Self::Lost | Self::Crashed(_) => "INTERNAL",
        }
    }
}
