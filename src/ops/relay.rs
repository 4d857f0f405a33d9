//! Leads the relay: one server at a time reads the outbox, window by window, and moves its cursor once a
//! window is delivered. Who publishes, and how, is not known here.
//!
//! Leadership is an advisory lock of the one connection that also moves the cursor. A leader whose
//! connection is lost can move nothing any more, whatever it still believes; and the cursor is moved only
//! from where the leader saw it.

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

/// ExecOptions long one statement may take. A connection on which it took longer is given up.
const STATEMENT_LIMIT: Duration = Duration::from_secs(20);
/// Returned changes that are published again at once.
const REPUBLISH_BATCH: u32 = 500;
/// The backlog is not counted beyond this.
const MOST_COUNTED: u32 = 1_000_000;

/// Why there is nothing to publish, or no use in it.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The database did not do its part.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// Another server has moved the cursor meanwhile.
    #[error("another relay has moved the cursor")]
    Superseded,
    /// The cursor is ahead of the server's transactions, or there is none.
    #[error(
        "the outbox's cursor is missing or belongs to another PostgreSQL, as after a restored dump; \
         docs/BROKER.md tells how to set it"
    )]
    CursorUnusable,
}

/// A server that would lead the relay if no other did.
pub struct Candidate {
    session: Session,
}

/// The one server that leads it.
pub struct Leader {
    session: Session,
    /// Everything below has been delivered, and the cursor says so.
    low: i64,
    ahead: Ahead,
}

/// What is to be published at once, in this order.
#[derive(Debug)]
pub struct Portion {
    /// The changes.
    pub changes: Vec<Change>,
    /// Whether there is nothing new.
    pub is_idle: bool,
    high: i64,
}

impl Ledger {
    /// Makes sure that changes are kept for the broker from now on.
    pub async fn ask_for_outbox(&self) -> Result<(), OpError> {
        let limit = Instant::now() + STATEMENT_LIMIT;
        self.read(limit, |conn| Box::pin(relay::ask_for_outbox(conn))).await
    }

    /// Brings the gauges of the outbox up to date.
    pub async fn refresh_backlog(&self) -> Result<(), OpError> {
        let limit = Instant::now() + STATEMENT_LIMIT;
        let (waiting, oldest) = self.read(limit, |conn| Box::pin(relay::backlog(conn, MOST_COUNTED))).await?;
        self.env.metrics.relay_backlog.set(waiting);
        self.env.metrics.relay_lag_seconds.set(oldest);
        Ok(())
    }

    /// Stands for the leadership of the relay.
    pub async fn stand_for_relay(&self) -> Result<Candidate, RelayError> {
        Ok(Candidate { session: self.env.database.session().await? })
    }
}

impl Candidate {
    /// Leads from now on, unless another server does.
    pub async fn lead(mut self) -> Result<Result<Leader, Self>, RelayError> {
        if !limited(self.session.try_lead()).await? {
            return Ok(Err(self));
        }
        let low = limited(self.session.delivered_below()).await?.ok_or(RelayError::CursorUnusable)?;
        Ok(Ok(Leader { session: self.session, low, ahead: Ahead::default() }))
    }
}

impl Leader {
    /// What is to be published next, about `limit` changes. It counts as published from now on: whoever
    /// fails to publish it all has to begin anew with another leader.
    pub async fn next(&mut self, limit: u32) -> Result<Portion, RelayError> {
        let window = limited(self.session.window(self.low, limit)).await?;
        let (is_idle, high) = (window.changes.is_empty(), window.high);
        Ok(Portion { changes: self.ahead.take(window), is_idle, high })
    }

    /// Moves the cursor: all of `portion` has been delivered, but for what was returned, which is kept.
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

    /// Takes note of what became of them.
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
