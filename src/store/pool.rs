//! The connections to PostgreSQL: a bounded set, lent one at a time, first come, first served.
//!
//! sqlx's own pool spends a round trip on every release, and hands a connection on whose borrower was
//! cancelled inside a transaction (launchbadge/sqlx #4385). Here a connection goes back only when its
//! borrower says that it is clean; any other is closed, and PostgreSQL rolls back what it had open.
//!
//! While callers wait for a connection to begin a transaction on, whoever ends one begins the next in the
//! same round trip (`AND CHAIN`). No connection is left like that unless somebody is about to take it.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{StoreError, relay::Session};

/// Idle for longer than this, a connection is tried before it is lent: a firewall or a failover may
/// have cut it without a word.
const TRY_AFTER_IDLE: Duration = Duration::from_secs(10);
/// The same where a transaction is begun on it, which PostgreSQL ends, and the connection with it, after ten
/// seconds.
const TRY_BEGUN_AFTER_IDLE: Duration = Duration::from_secs(1);
/// How long that trial, and an orderly close, may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(2);

/// How the pool behaves.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Connections at the most.
    pub max_connections: u32,
    /// How long to wait for a free connection or a new one, where the deadline does not end it first.
    pub acquire_timeout: Duration,
    /// A connection is replaced after this long.
    pub max_lifetime: Duration,
    /// The longest that any one statement may run, where its deadline does not end it first.
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
    idle: Mutex<Idle>,
    made: AtomicU64,
}

/// The connections that are not lent, and who waits for one.
#[derive(Default)]
struct Idle {
    connections: Vec<Pooled>,
    /// How many wait for a connection to begin a transaction on.
    to_begin: usize,
    /// How many wait for a connection that is in no transaction.
    others: usize,
    /// How many transactions are being begun for those who wait.
    promised: usize,
}

struct Pooled {
    connection: PgConnection,
    connected: Instant,
    idle_since: Instant,
    /// Whether a transaction was begun on it, which has done nothing yet.
    is_begun: bool,
}

/// How a transaction ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    Commit,
    Rollback,
}

/// Somebody who waits for a connection.
struct Waiting<'a> {
    shared: &'a Shared,
    to_begin: bool,
}

/// A connection on loan. Dropped without [`Lease::give_back`], it is closed.
pub struct Lease {
    pooled: Option<Pooled>,
    shared: Arc<Shared>,
    /// Whether a transaction is being begun on it for somebody who waits.
    has_promised: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool that connects as `options` say, when it is first asked to.
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

    /// Lends a connection, waiting for one no longer than `deadline` or the acquire timeout. Each statement
    /// on it is a transaction of its own.
    pub async fn lease(&self, deadline: Instant) -> Result<Lease, StoreError> {
        self.lend(deadline, false).await
    }

    /// Lends a connection to begin a transaction on, where that has not been done: see [`Lease::take_begun`].
    pub(super) async fn lease_to_begin(&self, deadline: Instant) -> Result<Lease, StoreError> {
        self.lend(deadline, true).await
    }

    async fn lend(&self, deadline: Instant, to_begin: bool) -> Result<Lease, StoreError> {
        let shared = &self.shared;
        let limit = deadline.min(Instant::now() + shared.settings.acquire_timeout);
        let too_late = |otherwise| if limit == deadline { StoreError::Deadline } else { otherwise };
        let waiting = (shared.permits.available_permits() == 0).then(|| Waiting::new(shared, to_begin));
        let permit = timeout_at(limit, Arc::clone(&shared.permits).acquire_owned())
            .await
            .map_err(|_| too_late(StoreError::PoolExhausted))?
            .map_err(|_| StoreError::PoolExhausted)?;
        let idle = waiting.map_or_else(|| shared.lock_idle().take(to_begin), Waiting::take);
        let connected = timeout_at(limit, async {
            match shared.tried(idle, to_begin).await {
                Some(pooled) => Ok(pooled),
                None => shared.connect().await,
            }
        });
        let pooled = connected.await.map_err(|_| too_late(silent()))??;
        Ok(Lease { pooled: Some(pooled), shared: Arc::clone(shared), has_promised: false, _permit: permit })
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
            self.shared.lock_idle().connections.clear();
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
        let idle = std::mem::take(&mut self.shared.lock_idle().connections);
        for pooled in idle {
            let _ = timeout(TRIAL_LIMIT, pooled.connection.close()).await;
        }
    }
}

impl Idle {
    /// The connection that was used last: a warm one, while those that load no longer needs grow old and are
    /// found out. Preferably one on which a transaction is begun, or is not, as it is wanted.
    fn take(&mut self, to_begin: bool) -> Option<Pooled> {
        let begun = to_begin || self.has_too_many_begun();
        let wanted = self.connections.iter().rposition(|pooled| pooled.is_begun == begun);
        wanted.map(|index| self.connections.remove(index)).or_else(|| self.connections.pop())
    }

    /// On how many a transaction is begun.
    fn begun(&self) -> usize {
        self.connections.iter().filter(|pooled| pooled.is_begun).count()
    }

    /// Whether there is one more of them than will be taken by those who wait.
    fn has_too_many_begun(&self) -> bool {
        self.begun() > self.to_begin + self.others
    }

    /// Whether a transaction that is begun now would save somebody a round trip. Where others wait too, it
    /// may come to one of these, and cost a round trip more.
    fn has_use_for_begun(&self) -> bool {
        self.others == 0 && self.to_begin > self.begun() + self.promised
    }

    fn waiting(&mut self, to_begin: bool) -> &mut usize {
        if to_begin { &mut self.to_begin } else { &mut self.others }
    }
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, to_begin: bool) -> Self {
        *shared.lock_idle().waiting(to_begin) += 1;
        Self { shared, to_begin }
    }

    /// Ends the wait with the permit to have a connection.
    fn take(self) -> Option<Pooled> {
        let Self { shared, to_begin } = self;
        let mut idle = shared.lock_idle();
        *idle.waiting(to_begin) -= 1;
        std::mem::forget(self); // or it would be counted off twice
        idle.take(to_begin)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut idle = self.shared.lock_idle();
        *idle.waiting(self.to_begin) -= 1;
        // Perhaps it was this one, who gave up, for whom a transaction was begun.
        if idle.has_too_many_begun() {
            drop(idle.take(true));
        }
    }
}

impl Shared {
    /// This connection, or another, if it still answers. It is in no transaction but one that `to_begin` asks
    /// for.
    async fn tried(&self, idle: Option<Pooled>, to_begin: bool) -> Option<Pooled> {
        let mut next = idle;
        while let Some(mut pooled) = next {
            let limit = if pooled.is_begun { TRY_BEGUN_AFTER_IDLE } else { TRY_AFTER_IDLE };
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
            next = self.lock_idle().take(to_begin);
        }
        None
    }

    async fn connect(&self) -> Result<Pooled, StoreError> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let mut connection = self.options.connect().await.map_err(unavailable)?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.on_connect.as_str()))).await.map_err(unavailable)?;
        Ok(Pooled { connection, connected: Instant::now(), idle_since: Instant::now(), is_begun: false })
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Hands the connection back for the next caller. It must be in no transaction that has done anything,
    /// and no statement of it under way.
    pub fn give_back(mut self) {
        let Some(mut pooled) = self.pooled.take() else { return };
        if pooled.connected.elapsed() >= self.shared.settings.max_lifetime || self.shared.permits.is_closed() {
            return;
        }
        let mut idle = self.shared.lock_idle();
        if pooled.is_begun && idle.to_begin <= idle.begun() {
            drop(idle);
            self.pooled = Some(pooled);
            tokio::spawn(self.end_what_nobody_wants());
            return;
        }
        pooled.idle_since = Instant::now();
        idle.connections.push(pooled);
    }

    /// Whether a transaction is begun on it for its borrower; from now on it is the borrower's to end.
    pub(super) fn take_begun(&mut self) -> bool {
        std::mem::take(&mut self.pooled_mut().is_begun)
    }

    /// Ends the borrower's transaction, by COMMIT or ROLLBACK, and begins the next one where somebody waits
    /// for that.
    pub(super) async fn end(&mut self, how: End) -> Result<(), sqlx::Error> {
        let begins_next = self.promise();
        self.execute(match (how, begins_next) {
            (End::Commit, false) => "COMMIT",
            (End::Commit, true) => "COMMIT AND CHAIN",
            (End::Rollback, false) => "ROLLBACK",
            (End::Rollback, true) => "ROLLBACK AND CHAIN",
        })
        .await?;
        self.pooled_mut().is_begun = begins_next;
        Ok(())
    }

    /// Promises those who wait that a transaction will be begun on it, if that is of use.
    fn promise(&mut self) -> bool {
        let mut idle = self.shared.lock_idle();
        self.has_promised = idle.has_use_for_begun();
        idle.promised += usize::from(self.has_promised);
        self.has_promised
    }

    async fn end_what_nobody_wants(mut self) {
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
            self.shared.lock_idle().promised -= 1;
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
