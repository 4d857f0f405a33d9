//! The connection pool for PostgreSQL: bounded, and fair in the order of requests.
//!
//! sqlx's own pool spends a round trip on every release, and hands a connection on whose borrower was
//! cancelled inside a transaction (launchbadge/sqlx #4385). Here a connection goes back only when its
//! borrower says that it is clean; any other is closed, and PostgreSQL rolls back what it had open.
//!
//! While callers wait for a connection to begin a transaction on, a transaction that ends begins the next one in the same
//! round trip ([`idle`]). While PostgreSQL is away, callers do not all try to connect ([`breaker`]).

mod breaker;
mod idle;

use std::{
    ops::{Deref, DerefMut},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{StoreError, relay::Session};
use breaker::{AWAY_LIMIT, Breaker};
use idle::{Idle, Waiting};

pub(super) use idle::End;

/// A connection that was idle for longer than this is checked before it is lent: a firewall or a failover may have cut
/// it silently.
const TRY_AFTER_IDLE: Duration = Duration::from_secs(10);
/// How long that check, and an orderly close, may take.
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
    /// How long a transaction may wait for its client's next statement: then PostgreSQL ends the session, and frees its
    /// row locks.
    pub idle_in_transaction_session_timeout: Duration,
}

/// The connections to PostgreSQL. Clones share them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    /// Those of the connections that are left to the borrowers of this [part](Pool::part); None: all of them.
    part: Option<Arc<Semaphore>>,
}

struct Shared {
    options: PgConnectOptions,
    settings: PoolSettings,
    on_connect: String,
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
    made: AtomicU64,
    breaker: Arc<Breaker>,
}

struct Pooled {
    connection: PgConnection,
    connected: Instant,
    idle_since: Instant,
    /// Whether a transaction was begun on it, which has done nothing yet.
    is_begun: bool,
}

/// A lent connection. Dropped without [`Lease::give_back`], it is closed.
pub struct Lease {
    pooled: Option<Pooled>,
    shared: Arc<Shared>,
    lent: Instant,
    /// Whether a transaction is being begun on it for a caller that waits.
    has_promised: bool,
    _permits: Permits,
}

/// The permits to have a connection: of the part, and of the whole.
type Permits = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Pool {
    /// A pool that connects with `options` when a connection is first needed.
    pub fn new(options: PgConnectOptions, settings: PoolSettings) -> Self {
        // Statements are traced by the transaction that runs them, not one by one.
        Self::with(options.disable_statement_logging(), settings, Arc::default())
    }

    /// Another pool for the same database, of connections that the borrowers of this one can't use up.
    #[must_use]
    pub fn beside(&self, max_connections: u32) -> Self {
        let Shared { options, settings, breaker, .. } = &*self.shared;
        let settings = PoolSettings { max_connections, ..settings.clone() };
        Self::with(options.clone(), settings, Arc::clone(breaker))
    }

    fn with(options: PgConnectOptions, settings: PoolSettings, breaker: Arc<Breaker>) -> Self {
        let shared = Shared {
            options,
            on_connect: on_connect(&settings),
            permits: Arc::new(Semaphore::new(settings.max_connections as usize)),
            settings,
            idle: Mutex::default(),
            made: AtomicU64::new(0),
            breaker,
        };
        Self { shared: Arc::new(shared), part: None }
    }

    /// The same connections for some of their borrowers, who have at most three quarters of them at once, and leave at
    /// least one to others.
    #[must_use]
    pub fn part(&self) -> Self {
        let all = self.shared.settings.max_connections as usize;
        let most = (all - (all / 4).max(1)).max(1);
        Self { shared: Arc::clone(&self.shared), part: Some(Arc::new(Semaphore::new(most))) }
    }

    /// Lends a connection, waiting for one until `deadline` or the acquire timeout; if PostgreSQL is away, for a second.
    /// Each statement on it is a transaction of its own.
    pub async fn lease(&self, deadline: Instant) -> Result<Lease, StoreError> {
        self.lend(Instant::now(), deadline, false).await
    }

    /// The same for a caller that has waited since `asked`.
    pub async fn lease_since(&self, asked: Instant, deadline: Instant) -> Result<Lease, StoreError> {
        self.lend(asked, deadline, false).await
    }

    /// Lends a connection to begin a transaction on, where that has not been done: see [`Lease::take_begun`].
    pub(super) async fn lease_to_begin(&self, asked: Instant, deadline: Instant) -> Result<Lease, StoreError> {
        self.lend(asked, deadline, true).await
    }

    async fn lend(&self, asked: Instant, deadline: Instant, to_begin: bool) -> Result<Lease, StoreError> {
        let shared = &self.shared;
        let limit = deadline.min(Instant::now() + shared.settings.acquire_timeout);
        let too_late = |otherwise| match shared.breaker.is_open() {
            true => StoreError::Away,
            false if limit == deadline => StoreError::Deadline,
            false => otherwise,
        };
        let waiting = self.is_used_up().then(|| Waiting::new(&shared.idle, to_begin));
        let permits = shared.within(asked, limit, self.permits()).await;
        let permits =
            permits.ok_or_else(|| too_late(StoreError::PoolExhausted))?.map_err(|_| StoreError::PoolExhausted)?;
        let idle = waiting.map_or_else(|| shared.idle.lock().take(to_begin), Waiting::take);
        let checked = shared.within(asked, limit, shared.checked(idle, to_begin)).await;
        let pooled = match checked.ok_or_else(|| too_late(silent()))? {
            Some(pooled) => pooled,
            None => {
                let began = Instant::now();
                let connected = shared.within(asked, limit, shared.connect()).await;
                if connected.is_none() && began.elapsed() >= AWAY_LIMIT {
                    shared.breaker.open(&timed_out(), false);
                }
                connected.ok_or_else(|| too_late(silent()))?
            }
        };
        let (shared, lent) = (Arc::clone(shared), Instant::now());
        Ok(Lease { pooled: Some(pooled), shared, lent, has_promised: false, _permits: permits })
    }

    /// Whether the next borrower has to wait.
    fn is_used_up(&self) -> bool {
        let part = self.part.as_ref().is_some_and(|part| part.available_permits() == 0);
        part || self.shared.permits.available_permits() == 0
    }

    async fn permits(&self) -> Result<Permits, AcquireError> {
        let part = match &self.part {
            Some(part) => Some(Arc::clone(part).acquire_owned().await?),
            None => None,
        };
        Ok((part, Arc::clone(&self.shared.permits).acquire_owned().await?))
    }

    /// A connection outside the pool, for a long session.
    ///
    /// If this machine vanishes from the network, PostgreSQL notices within some ten seconds and frees the session's
    /// locks.
    pub async fn session(&self) -> Result<Session, StoreError> {
        const WATCH_THE_LINE: &str =
            "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3";
        let connected = timeout(self.shared.settings.acquire_timeout, async {
            let mut connection = self.shared.connect().await.connection;
            connection.execute(sqlx::raw_sql(WATCH_THE_LINE)).await.map_err(StoreError::Unavailable)?;
            Ok(Session { connection })
        });
        connected.await.unwrap_or_else(|_| Err(silent()))
    }

    /// Records an error of a borrower. If the database was gone, the idle connections are dead too, and are dropped:
    /// each would cause an error for one more caller.
    pub fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) {
            self.shared.idle.lock().connections.clear();
        }
    }

    /// How many connections were made so far. The next one may lead to another database than the others: to a replica
    /// that has taken over, and may lack the last commits.
    pub fn connections_made(&self) -> u64 {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// The connections lent now, and the most that there may be.
    pub fn usage(&self) -> (usize, usize) {
        let max = self.shared.settings.max_connections as usize;
        (max - self.shared.permits.available_permits().min(max), max)
    }

    /// Closes idle connections and lends no more. Lent connections end with their borrowers.
    pub async fn close(&self) {
        self.shared.permits.close();
        let idle = std::mem::take(&mut self.shared.idle.lock().connections);
        for pooled in idle {
            let _ = timeout(TRIAL_LIMIT, pooled.connection.close()).await;
        }
    }
}

impl Shared {
    /// This connection, or another, if it still answers. It is in no transaction but one that `to_begin` asks for.
    async fn checked(&self, idle: Option<Pooled>, to_begin: bool) -> Option<Pooled> {
        let mut next = idle;
        while let Some(mut pooled) = next {
            let timeout_of_begun = self.settings.idle_in_transaction_session_timeout;
            let limit = if pooled.is_begun { timeout_of_begun / 2 } else { TRY_AFTER_IDLE };
            let answers = async {
                if pooled.is_begun && !to_begin {
                    pooled.connection.execute("ROLLBACK").await?;
                    pooled.is_begun = false;
                } else if pooled.idle_since.elapsed() >= limit {
                    pooled.connection.ping().await?;
                }
                Ok::<_, sqlx::Error>(())
            };
            if let Ok(Ok(())) = timeout(TRIAL_LIMIT, answers).await {
                return Some(pooled);
            }
            next = self.idle.lock().take(to_begin);
        }
        None
    }

    /// Waits for `work` until `limit`; while PostgreSQL is away, for no longer than a caller waits for that.
    async fn within<T>(&self, asked: Instant, limit: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout_at(limit.min(self.breaker.patience(asked)), &mut work).await {
                return Some(done);
            }
            // It may have gone away, or come back, meanwhile.
            if Instant::now() >= limit.min(self.breaker.patience(asked)) {
                return None;
            }
        }
    }

    /// Makes a connection; while PostgreSQL is away, in turn, when it is back.
    async fn connect(&self) -> Pooled {
        self.breaker.run(|| self.try_to_connect()).await
    }

    async fn try_to_connect(&self) -> Result<Pooled, sqlx::Error> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let mut connection = self.options.connect().await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.on_connect.as_str()))).await?;
        let now = Instant::now();
        Ok(Pooled { connection, connected: now, idle_since: now, is_begun: false })
    }
}

fn timed_out() -> sqlx::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// The error for a database that does not answer in time.
fn silent() -> StoreError {
    StoreError::Unavailable(timed_out())
}

/// The settings of every session.
///
/// Plans: every statement is a handful of index probes. A plan from a time when the table was empty, which scans it,
/// must not survive the table's growth; and planning a statement each time costs more than running it.
///
/// Times: no statement, lock or abandoned transaction lasts for ever, whatever happens to the program that started it.
/// A statement ends with its connection, on systems where PostgreSQL can notice that in time.
fn on_connect(settings: &PoolSettings) -> String {
    let statement = settings.statement_timeout.as_millis();
    let idle_in_transaction = settings.idle_in_transaction_session_timeout.as_millis();
    format!(
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         SET plan_cache_mode = force_generic_plan; \
         SET statement_timeout = {statement}; SET lock_timeout = {statement}; \
         SET idle_in_transaction_session_timeout = {idle_in_transaction}; SET client_min_messages = warning; \
         DO $$ BEGIN SET client_connection_check_interval = 1000; EXCEPTION WHEN OTHERS THEN NULL; END $$"
    )
}

impl Lease {
    /// Returns the connection to the pool. It must be in no transaction that has done anything, and no statement may be
    /// running on it.
    pub fn give_back(mut self) {
        let Some(mut pooled) = self.pooled.take() else { return };
        if pooled.connected.elapsed() >= self.shared.settings.max_lifetime || self.shared.permits.is_closed() {
            return;
        }
        pooled.idle_since = Instant::now();
        let unwanted = self.shared.idle.lock().give_back(pooled);
        if unwanted.is_some() {
            self.pooled = unwanted;
            tokio::spawn(self.end_unwanted());
        }
    }

    /// Tells the session's statement timeout from an operator who cancels a statement: PostgreSQL says 57014 of both.
    pub fn judged(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Canceled(_) if self.lent.elapsed() >= self.shared.settings.statement_timeout => {
                StoreError::Deadline
            }
            other => other,
        }
    }

    /// Whether a transaction is begun on it for its borrower; from now on it is the borrower's to end.
    pub(super) fn take_begun(&mut self) -> bool {
        std::mem::take(&mut self.pooled_mut().is_begun)
    }

    /// Ends the borrower's transaction, by COMMIT or ROLLBACK, and begins the next one where a caller waits for that.
    pub(super) async fn end(&mut self, how: End) -> Result<(), sqlx::Error> {
        let begins_next = self.shared.idle.lock().promise();
        self.has_promised = begins_next;
        self.execute(how.sql(begins_next)).await?;
        self.pooled_mut().is_begun = begins_next;
        Ok(())
    }

    async fn end_unwanted(mut self) {
        if let Ok(Ok(_)) = timeout(TRIAL_LIMIT, self.execute("ROLLBACK")).await {
            self.pooled_mut().is_begun = false;
            self.give_back();
        }
    }

    fn pooled_mut(&mut self) -> &mut Pooled {
        self.pooled.as_mut().expect("a lease has its connection until it is given back")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.has_promised {
            self.shared.idle.lock().promise_is_kept();
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
        &mut self.pooled_mut().connection
    }
}
