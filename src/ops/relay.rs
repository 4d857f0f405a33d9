//! Leads the relay: one server at a time reads the outbox, window by window, and moves its cursor once a window is
//! delivered. Publishing itself is the broker's part.
//!
//! Leadership is an advisory lock of the one connection that also moves the cursor. A leader that has lost its
//! connection can't move the cursor any more, even if it has not noticed; and the cursor moves only from where the
//! leader saw it.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Ledger, OpError};
use crate::{
    domain::{
        change::Change,
        relay::{Ahead, Returned},
    },
    store::{StoreError, relay, relay::Session},
};

/// How long one statement may take. A connection with a slower statement is closed.
const STATEMENT_LIMIT: Duration = Duration::from_secs(20);
/// How many returned changes are published again in one go.
const REPUBLISH_BATCH: u32 = 500;
/// The backlog is counted up to this.
const MOST_COUNTED: u32 = 1_000_000;

/// Why the relay can't lead or go on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A statement failed.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// Another server has moved the cursor meanwhile.
    #[error("another relay has moved the cursor")]
    Superseded,
    /// The cursor is missing, or ahead of PostgreSQL's transactions.
    #[error(
        "the outbox's cursor is missing or belongs to another PostgreSQL, as after a restored dump; \
         docs/BROKER.md tells how to set it"
    )]
    CursorUnusable,
}

/// A server that leads the relay unless another one does.
pub struct Candidate {
    session: Session,
}

/// The server that leads the relay.
pub struct Leader {
    session: Session,
    /// The cursor: everything below has been delivered.
    low: i64,
    ahead: Ahead,
}

/// The changes to publish in one go, in this order.
#[derive(Debug)]
pub struct Portion {
    /// The changes.
    pub changes: Vec<Change>,
    /// Whether there is nothing new.
    pub is_idle: bool,
    high: i64,
}

impl Ledger {
    /// Makes sure that the outbox keeps changes for the broker from now on.
    pub async fn ask_for_outbox(&self) -> Result<(), OpError> {
        let limit = Instant::now() + STATEMENT_LIMIT;
        self.read(limit, |conn| Box::pin(relay::ask_for_outbox(conn))).await
    }

    /// Refreshes the gauges of the outbox.
    pub async fn refresh_backlog(&self) -> Result<(), OpError> {
        let limit = Instant::now() + STATEMENT_LIMIT;
        let (waiting, oldest) = self.read(limit, |conn| Box::pin(relay::backlog(conn, MOST_COUNTED))).await?;
        self.env.metrics.relay_backlog.set(waiting);
        self.env.metrics.relay_lag_seconds.set(oldest);
        Ok(())
    }

    /// Opens a connection from which this server can become the leader.
    pub async fn stand_for_relay(&self) -> Result<Candidate, RelayError> {
        Ok(Candidate { session: self.env.database.session().await? })
    }
}

impl Candidate {
    /// Becomes the leader, unless another server is.
    pub async fn lead(mut self) -> Result<Result<Leader, Self>, RelayError> {
        if !limited(self.session.try_lead()).await? {
            return Ok(Err(self));
        }
        let low = limited(self.session.delivered_below()).await?.ok_or(RelayError::CursorUnusable)?;
        Ok(Ok(Leader { session: self.session, low, ahead: Ahead::default() }))
    }
}

impl Leader {
    /// The next portion to publish, about `limit` changes. It counts as published from now on: a caller that fails to
    /// publish all of it must step down and start over as a new leader.
    pub async fn next(&mut self, limit: u32) -> Result<Portion, RelayError> {
        let window = limited(self.session.window(self.low, limit)).await?;
        let (is_idle, high) = (window.changes.is_empty(), window.high);
        Ok(Portion { changes: self.ahead.take(window), is_idle, high })
    }

    /// Moves the cursor: all of `portion` has been delivered, except for the `returned` changes, which are kept.
    pub async fn delivered(&mut self, portion: &Portion, returned: &[Returned]) -> Result<(), RelayError> {
        if portion.is_idle {
            return Ok(());
        }
        if !limited(self.session.advance(self.low, portion.high, returned)).await? {
            return Err(RelayError::Superseded);
        }
        self.low = portion.high;
        Ok(())
    }

    /// Returned changes that an operator wants to be published again.
    pub async fn to_republish(&mut self) -> Result<Vec<Change>, RelayError> {
        limited(self.session.to_republish(REPUBLISH_BATCH)).await
    }

    /// Records the results of publishing them again.
    pub async fn republished(&mut self, all: &[Returned], returned: &[Returned]) -> Result<(), RelayError> {
        limited(self.session.republished(all, returned)).await
    }

    /// Steps down, so that another server can lead at once.
    pub async fn step_down(self) {
        let _ = timeout(STATEMENT_LIMIT, self.session.close()).await;
    }
}

async fn limited<T>(statement: impl Future<Output = Result<T, StoreError>>) -> Result<T, RelayError> {
    Ok(timeout(STATEMENT_LIMIT, statement).await.unwrap_or(Err(StoreError::Deadline))?)
}
