//! The connection pool for PostgreSQL: bounded, and fair in the order of requests.
//!
//! sqlx's own pool spends a round trip on every release, and hands a connection on whose borrower was
//! cancelled inside a transaction (launchbadge/sqlx #4385). Here a connection goes back only when its
//! borrower says that it is clean; any other is closed, and PostgreSQL rolls back what it had open.
//!
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{StoreError, relay::Session};

/// Idle for longer than this, a connection is tried before it is lent: a firewall or a failover may
/// have cut it without a word.
const TRY_AFTER_IDLE: Duration = Duration::from_secs(10);
/// How long that trial, and an orderly close, may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(2);

/// How the pool behaves.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The most connections.
    pub max_connections: u32,
    /// The longest wait for a free or new connection, unless the deadline is earlier.
    pub acquire_timeout: Duration,
    /// The age at which a connection is replaced.
    pub max_lifetime: Duration,
    /// The longest that one statement may run, unless the deadline is earlier.
    pub statement_timeout: Duration,
}

/// The connections to PostgreSQL. Clones share them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: PgConnectOptions,
    settings: PoolSettings,
    on_connect: String,
    permits: Arc<Semaphore>,
    /// The idle connections, the one used last at the end.
    idle: Mutex<Vec<Pooled>>,
    made: AtomicU64,
}

struct Pooled {
    connection: PgConnection,
    connected: Instant,
    idle_since: Instant,
}

/// A lent connection. Dropped without [`Lease::give_back`], it is closed.
pub struct Lease {
    pooled: Option<Pooled>,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool that connects with `options` when a connection is first needed.
    pub fn new(options: PgConnectOptions, settings: PoolSettings) -> Self {
        let permits = Arc::new(Semaphore::new(settings.max_connections as usize));
        let shared = Shared {
            // Statements are traced by the transaction that runs them, not one by one.
            options: options.disable_statement_logging(),
            on_connect: on_connect(&settings),
            settings,
            permits,
            idle: Mutex::default(),
            made: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lends a connection, waiting for one no longer than `deadline` or the acquire timeout. Each statement on it is a
    /// transaction of its own.
    pub async fn lease(&self, deadline: Instant) -> Result<Lease, StoreError> {
        let shared = &self.shared;
        let limit = deadline.min(Instant::now() + shared.settings.acquire_timeout);
        let too_late = |otherwise| if limit == deadline { StoreError::Deadline } else { otherwise };
        let permit = timeout_at(limit, Arc::clone(&shared.permits).acquire_owned())
            .await
            .map_err(|_| too_late(StoreError::PoolExhausted))?
            .map_err(|_| StoreError::PoolExhausted)?;
        let connected = timeout_at(limit, async {
            match shared.idle_connection().await {
                Some(pooled) => Ok(pooled),
                None => shared.connect().await,
            }
        });
        let pooled = connected.await.map_err(|_| too_late(silent()))??;
        Ok(Lease { pooled: Some(pooled), shared: Arc::clone(shared), _permit: permit })
    }

    /// A connection beside those that are lent, for a session that lasts.
    ///
    /// Should this machine vanish without a word, PostgreSQL finds out within some ten seconds, and frees
    /// what the session had locked.
    pub async fn session(&self) -> Result<Session, StoreError> {
        const WATCH_THE_LINE: &str =
            "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3";
        let connected = timeout(self.shared.settings.acquire_timeout, async {
            let mut connection = self.shared.connect().await?.connection;
            connection.execute(sqlx::raw_sql(WATCH_THE_LINE)).await.map_err(unavailable)?;
            Ok(Session { connection })
        });
        connected.await.unwrap_or_else(|_| Err(silent()))
    }

    /// Takes note of an error that a borrower met. Where the database was gone, the idle connections
    /// are dead too: each would cost another caller an error before it was found out.
    pub fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) {
            self.shared.idle.lock().clear();
        }
    }

    /// How many connections were made so far. The next one may lead to another database than the others: to a
    /// replica that has taken over, and has perhaps not heard of the last commits.
    pub fn connections_made(&self) -> u64 {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// Connections lent now, and the most there may be.
    pub fn usage(&self) -> (usize, usize) {
        let max = self.shared.settings.max_connections as usize;
        (max - self.shared.permits.available_permits().min(max), max)
    }

    /// Closes idle connections, and lends none any more. Those on loan end with their borrowers.
    pub async fn close(&self) {
        self.shared.permits.close();
        let idle = std::mem::take(&mut *self.shared.idle.lock());
        for pooled in idle {
            let _ = timeout(TRIAL_LIMIT, pooled.connection.close()).await;
        }
    }
}

impl Shared {
    /// The connection that was used last, if it still answers: a warm one, while those that load no longer needs grow
    /// old and are found out.
    async fn idle_connection(&self) -> Option<Pooled> {
        loop {
            let mut pooled = self.idle.lock().pop()?;
            if pooled.idle_since.elapsed() < TRY_AFTER_IDLE {
                return Some(pooled);
            }
            if let Ok(Ok(())) = timeout(TRIAL_LIMIT, pooled.connection.ping()).await {
                return Some(pooled);
            }
        }
    }

    async fn connect(&self) -> Result<Pooled, StoreError> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let mut connection = self.options.connect().await.map_err(unavailable)?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.on_connect.as_str()))).await.map_err(unavailable)?;
        Ok(Pooled { connection, connected: Instant::now(), idle_since: Instant::now() })
    }
}

/// Whatever keeps a connection from being made, the database is not available through it.
fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(error)
}

/// A database that does not answer in time.
fn silent() -> StoreError {
    StoreError::Unavailable(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
}

/// What every session is set to.
///
/// Plans: every statement here is a handful of index probes. A plan that was made while a table was
/// empty, and read it whole, must not survive the table's growth; and planning one anew each time costs
/// more than running it.
///
/// Times: no statement, lock or forgotten transaction of ours lasts without end, whatever becomes of
/// the program that started it. A statement ends with its connection, on systems where PostgreSQL can
/// see that in time.
fn on_connect(settings: &PoolSettings) -> String {
    let statement = settings.statement_timeout.as_millis();
    format!(
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         SET plan_cache_mode = force_generic_plan; \
         SET statement_timeout = {statement}; SET lock_timeout = {statement}; \
         SET idle_in_transaction_session_timeout = 10000; SET client_min_messages = warning; \
         DO $$ BEGIN SET client_connection_check_interval = 1000; EXCEPTION WHEN OTHERS THEN NULL; END $$"
    )
}

impl Lease {
    /// Hands the connection back for the next caller. It must be in no transaction, and no statement of it may be
    /// running.
    pub fn give_back(mut self) {
        let Some(mut pooled) = self.pooled.take() else { return };
        if pooled.connected.elapsed() < self.shared.settings.max_lifetime && !self.shared.permits.is_closed() {
            pooled.idle_since = Instant::now();
            self.shared.idle.lock().push(pooled);
        }
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.pooled.as_ref().expect("a lease has its connection until it is given back").connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.pooled.as_mut().expect("a lease has its connection until it is given back").connection
    }
}
