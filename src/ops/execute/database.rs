//! What the engine needs of PostgreSQL: connections on which it reads, locks and writes. A trait, so that the engine
//! and its queue also run against a model of the database in simulations.

use std::{collections::BTreeMap, future::Future, time::Duration};

use tokio::time::Instant;

use crate::{
    domain::{
        command::Command,
        ids::EventId,
        needs::Needs,
        snapshot::{Loaded, Snapshot},
        time::Timestamp,
    },
    store::{
        Budget, Context, Lease, LockWait, Pool, StoreError, Tx, events, load,
        write::{self, EventWrite, WriteMode, Written},
    },
};

/// A database.
pub(crate) trait Database: Clone + Send + Sync + 'static {
    /// A connection, or a transaction on one.
    type Conn: Conn;

    /// A connection on which each statement is a transaction of its own, for a caller that waits since `asked`.
    fn autocommit(
        &self,
        asked: Instant,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Conn, StoreError>> + Send;

    /// A transaction for `commands`.
    fn begin(
        &self,
        budget: Budget,
        commands: &[&Command],
    ) -> impl Future<Output = Result<Self::Conn, StoreError>> + Send;

    /// How many connections were made so far: the next one may lead to another database.
    fn connections_made(&self) -> u64;

    /// Takes note of an error that a connection met.
    fn note(&self, error: &StoreError);
}

/// A connection, or a transaction on one. Dropped without [`Conn::end`], it is closed and undone.
pub(crate) trait Conn: Send {
    /// Reads what commands are decided on.
    fn read(&mut self, commands: &[&Command]) -> impl Future<Output = Result<Context, StoreError>> + Send;

    /// Locks the events of commands in the order of their ids, reads the same under the locks, and says how long
    /// that took. In a transaction only.
    fn lock_and_read(
        &mut self,
        commands: &[&Command],
        wait: LockWait,
    ) -> impl Future<Output = Result<(Context, Duration), StoreError>> + Send;

    /// Reads what else is needed. None: an event has changed since it was read.
    fn load(
        &mut self,
        snapshots: &BTreeMap<EventId, Snapshot>,
        needs: &BTreeMap<EventId, Needs>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<BTreeMap<EventId, Loaded>>, StoreError>> + Send;

    /// Writes what was decided.
    fn write(
        &mut self,
        writes: &[EventWrite<'_>],
        mode: WriteMode,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Ends the work on it: a transaction is committed where `commits`, else rolled back, and the connection is kept
    /// where it is still good.
    fn end<T: Send>(
        self,
        result: Result<T, StoreError>,
        commits: bool,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

/// A connection to PostgreSQL.
pub(crate) enum PgConn {
    /// Each statement is a transaction of its own.
    Autocommit(Lease),
    /// A transaction.
    Transaction(Box<Tx>),
}

impl Database for Pool {
    type Conn = PgConn;

    async fn autocommit(&self, asked: Instant, deadline: Instant) -> Result<PgConn, StoreError> {
        self.lease_since(asked, deadline).await.map(PgConn::Autocommit)
    }

    async fn begin(&self, budget: Budget, commands: &[&Command]) -> Result<PgConn, StoreError> {
        // The lock of a single command sets the limits itself, where it has to wait.
        let tx = match commands {
            [command] => self.begin_unlimited(command.operation(), budget).await?,
            _ => self.begin("batch", budget).await?,
        };
        Ok(PgConn::Transaction(Box::new(tx)))
    }

    fn connections_made(&self) -> u64 {
        Pool::connections_made(self)
    }

    fn note(&self, error: &StoreError) {
        Pool::note(self, error);
    }
}

impl PgConn {
    fn connection(&mut self) -> &mut sqlx::PgConnection {
        match self {
            Self::Autocommit(lease) => lease,
            Self::Transaction(tx) => tx,
        }
    }
}

impl Conn for PgConn {
    async fn read(&mut self, commands: &[&Command]) -> Result<Context, StoreError> {
        load::read(self.connection(), commands).await
    }

    async fn lock_and_read(
        &mut self,
        commands: &[&Command],
        wait: LockWait,
    ) -> Result<(Context, Duration), StoreError> {
        let nothing = || Context { now: Timestamp::MIN, snapshots: BTreeMap::new() };
        if let (Self::Transaction(tx), [command]) = (&mut *self, commands) {
            return Ok(load::lock_and_read(tx, command, wait).await?.unwrap_or_else(|| (nothing(), Duration::ZERO)));
        }
        let asked = Instant::now();
        let mut ids: Vec<_> = commands.iter().map(|command| &command.event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            events::lock(self.connection(), id, wait).await?;
        }
        let lock_wait = asked.elapsed();
        Ok((self.read(commands).await?, lock_wait))
    }

    async fn load(
        &mut self,
        snapshots: &BTreeMap<EventId, Snapshot>,
        needs: &BTreeMap<EventId, Needs>,
        now: Timestamp,
    ) -> Result<Option<BTreeMap<EventId, Loaded>>, StoreError> {
        load::load(self.connection(), snapshots, needs, now).await
    }

    async fn write(&mut self, writes: &[EventWrite<'_>], mode: WriteMode) -> Result<Written, StoreError> {
        match self {
            Self::Autocommit(lease) => write::write(lease, writes, mode).await,
            // Its commit comes later.
            Self::Transaction(tx) => write::write(tx, writes, mode).await.map_err(StoreError::uncommitted),
        }
    }

    async fn end<T: Send>(self, result: Result<T, StoreError>, commits: bool) -> Result<T, StoreError> {
        match self {
            Self::Autocommit(lease) => {
                let result = result.map_err(|error| lease.judged(error));
                if result.as_ref().err().is_none_or(StoreError::spares_the_connection) {
                    lease.give_back();
                }
                result
            }
            Self::Transaction(tx) => tx.finish(result, |_| commits).await,
        }
    }
}
