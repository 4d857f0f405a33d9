//! Why a use case has no result.

use crate::{domain::refusal::Refusal, store::StoreError};

/// The unique constraint that finally guards against two live reservations of one user.
const ONE_LIVE_PER_USER: &str = "reservations_one_live_per_user";
/// The unique index that finally guards against two waiting entries of one user.
const ONE_WAITING_PER_USER: &str = "waitlist_one_per_user";

/// Why a use case has no result.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The rules refuse the command. Nothing was changed.
    #[error("refused: {}", .0.reason())]
    Refused(Refusal),
    /// In every attempt, another command changed the event between the read and the write. Nothing was written.
    #[error("the event changed under each of {attempts} attempts")]
    Contention {
        /// The number of attempts.
        attempts: u32,
    },
    /// The event's row lock did not become free in time. Nothing was changed.
    #[error("the event's row lock was not available")]
    LockTimeout,
    /// The deadline passed. Nothing was changed, unless a commit had already been sent: a repetition with the same
    /// request_id tells.
    #[error("the deadline passed")]
    Deadline,
    /// The database is not available. If `outcome_unknown`, a commit had been sent: a repetition with the same
    /// request_id tells.
    #[error("the database is unavailable")]
    Unavailable {
        /// Whether the change may have been made.
        outcome_unknown: bool,
        /// The error of the database or the connection. None: it is logged already, once for all.
        #[source]
        cause: Option<StoreError>,
    },
    /// The service is too busy to do this now.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// A defect.
    #[error("unexpected: {0}")]
    Unexpected(#[source] StoreError),
    /// A defect: the command's batch was dropped without an answer.
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
            // The pool has logged why.
            StoreError::Away => Self::Unavailable { outcome_unknown: false, cause: None },
            StoreError::Unavailable(_)
            | StoreError::Repeat(_)
            | StoreError::Canceled(_)
            | StoreError::SessionEnded(_) => Self::Unavailable { outcome_unknown: false, cause: Some(error) },
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
    /// The same error, with its cause left out because it is logged already.
    pub(super) fn logged(self) -> Self {
        match self {
            Self::Unavailable { outcome_unknown, .. } => Self::Unavailable { outcome_unknown, cause: None },
            other => other,
        }
    }

    /// The reason, as clients see it in `ErrorInfo` and operators see it in the metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Contention { .. } => "VERSION_CONTENTION",
            Self::LockTimeout => "LOCK_TIMEOUT",
            Self::Deadline => "DEADLINE",
            Self::Unavailable { outcome_unknown: true, .. } => "OUTCOME_UNKNOWN",
            Self::Unavailable { outcome_unknown: false, .. } => "DATABASE_UNAVAILABLE",
            Self::Busy(_) => "OVERLOADED",
            Self::Unexpected(_) | Self::Lost | Self::Crashed(_) => "INTERNAL",
        }
    }
}
