//! Errors of the database, classified by SQLSTATE and constraint name.

use std::borrow::Cow;

/// Why a statement or transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row lock did not become free in time, or was not free under NOWAIT (55P03).
    #[error("the row lock was not available")]
    LockTimeout,
    /// The deadline passed first; nothing was written.
    #[error("the deadline passed")]
    Deadline,
    /// PostgreSQL asks for the transaction to be repeated (40001, 40P01).
    #[error("the transaction has to be repeated")]
    Repeat(#[source] sqlx::Error),
    /// A unique constraint or index refused a row (23505).
    #[error("unique constraint {0} refused a row")]
    Unique(String),
    /// A check constraint refused a row (23514).
    #[error("check constraint {0} refused a row")]
    Check(String),
    /// The statement was cancelled, by an operator or, where the deadline has passed, by its time limit (57014); nothing
    /// was written.
    #[error("the statement was cancelled")]
    Canceled(#[source] sqlx::Error),
    /// The transaction waited so long for its client that PostgreSQL ended the session (25P03, 25P04); nothing was
    /// written.
    #[error("the transaction was idle for too long")]
    SessionEnded(#[source] sqlx::Error),
    /// No connection can be made, nor could be within the time that a caller waits for that.
    #[error("no connection to the database can be made")]
    Away,
    /// A connection broke, or the database is starting, stopping or full.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The connection broke after a COMMIT was sent: it may or may not have happened.
    #[error("the outcome of a commit is unknown")]
    OutcomeUnknown(#[source] sqlx::Error),
    /// No connection became free in time.
    #[error("no database connection came free in time")]
    PoolExhausted,
    /// Anything else: a defect.
    #[error("the database answered unexpectedly")]
    Unexpected(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
                other => Self::Unexpected(other),
            };
        };
        let constraint = || database.constraint().unwrap_or("unnamed").to_owned();
        match database.code().unwrap_or(Cow::Borrowed("")).as_ref() {
            "55P03" => Self::LockTimeout,
            "57014" => Self::Canceled(error),
            "25P03" | "25P04" => Self::SessionEnded(error),
            "40001" | "40P01" => Self::Repeat(error),
            "23505" => Self::Unique(constraint()),
            "23514" => Self::Check(constraint()),
            code if is_outage(code) => Self::Unavailable(error),
            _ => Self::Unexpected(error),
        }
    }
}

/// Connection failures (08), the server going down or coming up (57P), no room for another
/// connection, no disk or memory (53), a standby or a failed-over primary that takes no writes
/// (25006), I/O errors (58).
pub(super) fn is_outage(code: &str) -> bool {
    ["08", "57P", "53", "58"].iter().any(|class| code.starts_with(class)) || code == "25006"
}

impl StoreError {
    /// A copy of this error, for another caller of the same batch.
    #[must_use]
    pub fn alike(&self) -> Self {
        let same = || sqlx::Error::Protocol("the error of the batch, told to each of its callers".into());
        match self {
            Self::LockTimeout => Self::LockTimeout,
            Self::Deadline => Self::Deadline,
            Self::PoolExhausted => Self::PoolExhausted,
            Self::Unique(name) => Self::Unique(name.clone()),
            Self::Check(name) => Self::Check(name.clone()),
            Self::Away => Self::Away,
            Self::Repeat(_) => Self::Repeat(same()),
            Self::Canceled(_) => Self::Canceled(same()),
            Self::SessionEnded(_) => Self::SessionEnded(same()),
            Self::Unavailable(_) => Self::Unavailable(same()),
            Self::OutcomeUnknown(_) => Self::OutcomeUnknown(same()),
            Self::Unexpected(_) => Self::Unexpected(same()),
        }
    }

    /// This error for a statement inside a transaction: without its COMMIT, nothing was written.
    #[must_use]
    pub fn uncommitted(self) -> Self {
        if let Self::OutcomeUnknown(error) = self { error.into() } else { self }
    }

    /// Whether PostgreSQL or a broken connection undid the work, for no reason that lies in it: it can be repeated.
    pub const fn undid_the_work(&self) -> bool {
        matches!(self, Self::Repeat(_) | Self::Canceled(_) | Self::SessionEnded(_) | Self::Unavailable(_))
    }

    /// Whether the connection can be used again once its transaction is rolled back.
    pub const fn spares_the_connection(&self) -> bool {
        matches!(
            self,
            Self::LockTimeout | Self::Deadline | Self::Repeat(_) | Self::Canceled(_) | Self::Unique(_) | Self::Check(_)
        )
    }
}
