//! Transactions: each has a name, a time limit, and one of two ends.

use std::{
    io::ErrorKind,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span, field, info_span};

use super::{Lease, Pool, StoreError, pool::End};

/// How long a rollback may take before the connection is closed instead.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(1);

/// What a statement does when a row is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockWait {
    /// Wait, within the budget.
    Wait,
    /// Fail at once.
    NoWait,
}

/// How long a transaction may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Since when the caller waits: see [`Pool::lease_since`].
    pub asked: Instant,
    /// When the caller stops listening.
    pub deadline: Instant,
    /// The longest wait for one row lock.
    pub max_lock_wait: Duration,
}

/// An open transaction. Dropped without [`Tx::commit`] or [`Tx::rollback`], it closes its connection, and PostgreSQL
/// rolls back.
pub struct Tx {
    lease: Lease,
    deadline: Instant,
    limits: Limits,
    span: Span,
}

/// The timeouts that PostgreSQL gets for a [`Budget`], in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `statement_timeout`.
    pub(super) statement: u128,
    /// `lock_timeout`.
    pub(super) lock: u128,
}

impl Budget {
    /// The timeouts for `budget`. None: no time is left.
    fn limits(&self) -> Option<Limits> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // If the deadline ends the wait, the timeout must not fire before it: see `Tx::judged`.
        let lock = left.min(self.max_lock_wait).as_millis() + 1;
        (left >= Duration::from_millis(1)).then_some(Limits { statement: left.as_millis(), lock })
    }
}

impl Pool {
    /// Begins a transaction that ends within `budget`, lock waits included.
    pub async fn begin(&self, name: &'static str, budget: Budget) -> Result<Tx, StoreError> {
        self.begin_with(name, budget, true).await
    }

    /// Begins the same transaction, but leaves setting the limits to the first statement that may wait, as
    /// [`load::lock_and_read`](super::load::lock_and_read) does.
    pub async fn begin_unlimited(&self, name: &'static str, budget: Budget) -> Result<Tx, StoreError> {
        self.begin_with(name, budget, false).await
    }

    async fn begin_with(&self, name: &'static str, budget: Budget, is_limited: bool) -> Result<Tx, StoreError> {
        let span = info_span!("transaction", otel.name = name, db.system.name = "postgresql", outcome = field::Empty);
        let leased = async {
            let Budget { asked, deadline, .. } = budget;
            if is_limited {
                self.lease_since(asked, deadline).await
            } else {
                self.lease_to_begin(asked, deadline).await
            }
        };
        let mut lease = leased.instrument(span.clone()).await?;
        let Some(limits) = budget.limits() else {
            lease.give_back();
            return Err(StoreError::Deadline);
        };
        if is_limited {
            let Limits { statement, lock } = limits;
            // BEGIN and its limits in one round trip.
            let sql = format!("BEGIN; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}");
            lease.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        } else if !lease.take_begun() {
            lease.execute("BEGIN").await?;
        }
        Ok(Tx { lease, deadline: budget.deadline, limits, span })
    }
}

impl Tx {
    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Ends the transaction according to `result`: commits if `is_done`, rolls back otherwise, and keeps the connection
    /// unless the error broke it.
    pub async fn finish<T>(
        self,
        result: Result<T, StoreError>,
        is_done: impl FnOnce(&T) -> bool,
    ) -> Result<T, StoreError> {
        match result.map_err(|error| self.judged(error)) {
            Ok(value) if is_done(&value) => self.commit().await.map(|()| value),
            Err(error) if !error.spares_the_connection() => Err(error),
            other => {
                self.rollback().await;
                other
            }
        }
    }

    /// Commits, unless the deadline has passed: then it rolls back. An error after the COMMIT was sent is
    /// [`StoreError::OutcomeUnknown`].
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if Instant::now() >= self.deadline {
            self.rollback().await;
            return Err(StoreError::Deadline);
        }
        match self.lease.end(End::Commit).instrument(self.span.clone()).await {
            Ok(()) => {
                self.span.record("outcome", "commit");
                self.lease.give_back();
                Ok(())
            }
            Err(error @ sqlx::Error::Database(_)) => Err(self.judged(error.into())),
            // PostgreSQL had closed the connection before: the COMMIT was not sent.
            Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Err(StoreError::Unavailable(error.into()))
            }
            Err(error) => Err(StoreError::OutcomeUnknown(error)),
        }
    }

    /// Turns what a time limit ended at the deadline into the deadline's error. PostgreSQL has them in whole milliseconds.
    fn judged(&self, error: StoreError) -> StoreError {
        match self.lease.judged(error) {
            StoreError::LockTimeout if Instant::now() >= self.deadline => StoreError::Deadline,
            StoreError::Canceled(_) if Instant::now() + Duration::from_millis(1) >= self.deadline => {
                StoreError::Deadline
            }
            other => other,
        }
    }

    /// Rolls back, and keeps the connection if it still answers.
    pub async fn rollback(mut self) {
        self.span.record("outcome", "rollback");
        if let Ok(Ok(())) = timeout(ROLLBACK_LIMIT, self.lease.end(End::Rollback)).await {
            self.lease.give_back();
        }
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.lease
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.lease
    }
}
