//! The composition root: bind, start, drain, stop, in that order.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;

use crate::{
    auth::{
        guard::Guard,
        keys::KeysError,
        sessions::{Sessions, store::SessionStoreError},
    },
    broker,
    config::Config,
    embedded::{Embedded, EmbeddedError, EmbeddedOptions, default_data_dir},
    ops::{Ledger, OpError},
    rpc::{
        server::{self, Parts},
        tls::{Tls, TlsError},
    },
    store::{
        Pool, PoolSettings,
        schema::{self, SchemaError},
    },
    telemetry::metrics::Metrics,
    worker,
};

/// How long a scrape of the metrics may still take once the service stops.
const LAST_SCRAPE: Duration = Duration::from_millis(200);
/// How long workers may take to end once told, after the drain.
const WORKER_LIMIT: Duration = Duration::from_secs(10);

/// Why the service can't start. Each is one line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address} ({setting}): {cause}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others could reach the address, and nobody has said that they may.
    #[error(
        "server.listen is {address}, which others can reach, and {risk}: set {cure}, or {setting}=true to take the risk"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
        /// What they could do.
        risk: &'static str,
        /// What keeps them from that.
        cure: &'static str,
        /// The setting that names the risk.
        setting: &'static str,
    },
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of keys for tokens can't be used.
    #[error("auth.jwks: {from}: {cause}")]
    Keys {
        /// Where they should come from.
        from: String,
        /// Why they don't.
        cause: KeysError,
    },
    /// The settings' way to Redis is none.
    #[error(transparent)]
    Sessions(#[from] SessionStoreError),
    /// `database.url` is no PostgreSQL URL.
    #[error("database.url (DATABASE_URL) is not a PostgreSQL URL such as postgres://user:password@host/database")]
    Url,
    /// The embedded PostgreSQL does not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database does not take the outbox's cursor.
    #[error("cannot prepare the outbox: {0}")]
    Outbox(#[from] OpError),
    /// The schema can't be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// Threads to serve with on so many cores.
pub fn worker_threads(config: &Config, cores: usize) -> usize {
    match config.server.worker_threads {
        0 if Database::shares_the_machine(config) => cores.div_ceil(2),
        0 => cores,
        threads => threads,
    }
}

/// The database that the settings name: given, or run by ourselves.
pub struct Database {
    /// How to connect.
    pub options: PgConnectOptions,
    embedded: Option<Embedded>,
}

impl Database {
    /// Finds the database that the settings name, and starts it where that is ours to do.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let url = config.database.url.expose();
        if !url.is_empty() {
            // sqlx would connect to the server of any scheme.
            if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
                return Err(StartError::Url);
            }
            let options: PgConnectOptions = url.parse().map_err(|_| StartError::Url)?;
            return Ok(Self { options: options.application_name("reservd"), embedded: None });
        }
        let embedded = Embedded::start(&embedded_options(config)).await?;
        let options = embedded.connect_options().application_name("reservd");
        Ok(Self { options, embedded: Some(embedded) })
    }

    /// Whether it runs where we do.
    fn shares_the_machine(config: &Config) -> bool {
        let url = config.database.url.expose();
        let is_here = |options: PgConnectOptions| {
            options.get_socket().is_some() || ["localhost", "127.0.0.1", "[::1]"].contains(&options.get_host())
        };
        url.is_empty() || url.parse().is_ok_and(is_here)
    }

    /// Brings the schema up to date, or makes sure that it is, as the settings say.
    pub async fn prepare(&self, migrate: bool) -> Result<usize, SchemaError> {
        if migrate { schema::migrate(&self.options).await } else { schema::check(&self.options).await.map(|()| 0) }
    }

    /// The pool of connections that the settings describe.
    pub fn pool(&self, config: &Config) -> Pool {
        let settings = &config.database;
        let settings = PoolSettings {
            max_connections: settings.max_connections,
            acquire_timeout: settings.acquire_timeout,
            max_lifetime: settings.max_lifetime,
            statement_timeout: settings.statement_timeout,
        };
        Pool::new(self.options.clone(), settings)
    }

    /// Where the database is, for people.
    pub fn describe(&self, config: &Config) -> String {
        match &self.embedded {
            Some(embedded) => embedded.url(),
            None => config.database.url.to_string(),
        }
    }

    /// Stops the database if we started it.
    pub async fn close(self) {
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.stop().await
        {
            tracing::warn!(%error, "the embedded PostgreSQL did not stop in order");
        }
    }
}

fn embedded_options(config: &Config) -> EmbeddedOptions {
    let settings = &config.embedded;
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let data_dir = given(&settings.data_dir).map_or_else(default_data_dir, PathBuf::from);
    EmbeddedOptions {
        bin_dir: given(&settings.bin_dir).map(PathBuf::from),
        os_user: given(&settings.os_user),
        max_connections: EmbeddedOptions::durable(&data_dir).max_connections.max(config.database.max_connections + 20),
        ..EmbeddedOptions::durable(data_dir)
    }
}

/// A service that serves.
pub struct App {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Where metrics are served.
    pub metrics_address: Option<SocketAddr>,
    database: Database,
    ledger: Ledger,
    health: HealthReporter,
    draining: Arc<AtomicBool>,
    /// Ends the listeners.
    stop_serving: CancellationToken,
    /// Ends the workers.
    stop_working: CancellationToken,
    /// Ends the watch over who may come in, which lasts as long as anybody is in.
    stop_guarding: CancellationToken,
    workers: TaskTracker,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    drain_limit: Duration,
}

impl App {
    /// Starts everything, and returns once it serves.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        refuse_exposure(config)?;
        let tls = config.has_tls().then(|| Tls::load(&config.tls)).transpose()?.map(Arc::new);
        let metrics = Arc::new(Metrics::new());
        let sessions = Sessions::new(&config.sessions, Arc::clone(&metrics))?;
        let guard = Arc::new(Guard::new(config, sessions.clone(), Arc::clone(&metrics)));
        get_keys(config, &guard).await?;
        let listener = bind(config.server.listen, "server.listen").await?;
        let metrics_listener = match config.server.metrics_listen {
            Some(address) => Some(bind(address, "server.metrics_listen").await?),
            None => None,
        };
        let database = Database::open(config).await?;
        let migrated = database.prepare(config.database.migrate).await?;
        let ledger = Ledger::new(database.pool(config), config.execution, config.watch, Arc::clone(&metrics))
            .with_hold_limit(config.limits.live_holds_per_user);

        let (health, health_service) = server::health().await;
        let draining = Arc::new(AtomicBool::new(false));
        let [stop_serving, stop_working, stop_guarding] = [(); 3].map(|()| CancellationToken::new());
        let workers = TaskTracker::new();
        let (address, metrics_address) = (local(&listener), metrics_listener.as_ref().map(local));
        keep_fresh(tls.as_ref(), &guard, &workers, &stop_guarding);
        let parts = Parts { ledger: ledger.clone(), metrics, guard, tls, draining: Arc::clone(&draining) };
        let settings = config.clone();
        let stop = stop_serving.clone();
        let server = tokio::spawn(async move { server::serve(&settings, parts, health_service, listener, stop).await });
        if let Some(listener) = metrics_listener {
            workers.spawn(serve_metrics(listener, ledger.clone(), stop_working.clone()));
        }
        worker::start(config, &ledger, health.clone(), &workers, &stop_working);
        broker::start(config, &ledger, sessions, &workers, &stop_working).await?;
        server::set_serving(&health, true).await;

        let database_at = database.describe(config);
        let (tls, authentication) = (config.has_tls(), config.has_authentication());
        tracing::info!(%address, ?metrics_address, database = database_at, migrated, tls, authentication, "reservd serves");
        if !authentication {
            tracing::warn!(
                loopback_only = is_loopback(address),
                "callers are not asked who they are, and may do everything"
            );
        }
        let drain_limit = config.server.drain_limit;
        Ok(Self {
            address,
            metrics_address,
            database,
            ledger,
            health,
            draining,
            stop_serving,
            stop_working,
            stop_guarding,
            workers,
            server,
            drain_limit,
        })
    }

    /// The metrics that it keeps.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.ledger.metrics()
    }

    /// Waits until the server ends by itself, which it does only when it fails.
    pub async fn failed(&mut self) {
        let result = (&mut self.server).await;
        tracing::error!(?result, "the server ended by itself");
    }

    /// Stops: says NOT_SERVING, refuses new calls, finishes what runs within the drain limit, ends the
    /// workers, and closes the database.
    pub async fn stop(self) {
        let limit = Instant::now() + self.drain_limit;
        self.stop_working.cancel();
        server::set_serving(&self.health, false).await;
        sleep(server::NOTICE).await;
        self.draining.store(true, Ordering::Relaxed);
        self.stop_serving.cancel();
        server::end_watches(&self.health).await;
        self.ledger.end_watches();
        if timeout_at(limit, self.server).await.is_err() {
            tracing::warn!(limit = ?self.drain_limit, "calls were still under way at the drain limit, and were cut off");
        }
        self.stop_guarding.cancel();
        // What callers no longer wait for still runs to its end.
        if timeout_at(limit.max(Instant::now() + Duration::from_secs(1)), self.ledger.drained()).await.is_err() {
            tracing::warn!("transactions were still under way at the drain limit; PostgreSQL rolls them back");
        }
        self.workers.close();
        if timeout_at(Instant::now() + WORKER_LIMIT, self.workers.wait()).await.is_err() {
            tracing::warn!(limit = ?WORKER_LIMIT, "background work did not end in time");
        }
        self.ledger.pool().close().await;
        self.database.close().await;
    }
}

/// Refuses to serve others by oversight: each risk has a cure, and a setting that names it.
fn refuse_exposure(config: &Config) -> Result<(), StartError> {
    let address = config.server.listen;
    if is_loopback(address) {
        return Ok(());
    }
    let exposed = |risk, cure, setting| Err(StartError::Exposed { address, risk, cure, setting });
    if !config.has_authentication() && !config.security.allow_unauthenticated_network {
        return exposed(
            "anyone who reaches it may do everything",
            "auth.jwks, sessions.url or tls.client_ca",
            "security.allow_unauthenticated_network",
        );
    }
    if !config.has_tls() && !config.security.allow_plaintext_network {
        return exposed(
            "anyone on the way may read and alter everything",
            "tls.certificate and tls.key",
            "security.allow_plaintext_network",
        );
    }
    Ok(())
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Gets the keys for tokens. A file that can't be read is a mistake to be told at once; an issuer that
/// does not answer just now must not keep the service from starting.
async fn get_keys(config: &Config, guard: &Guard) -> Result<(), StartError> {
    let Some(tokens) = guard.tokens() else { return Ok(()) };
    let from = &config.auth.jwks;
    match tokens.keys.refresh().await {
        Err(cause) if from.file().is_some() => Err(StartError::Keys { from: from.to_string(), cause }),
        Err(error) => {
            tracing::warn!(%from, %error, "auth.jwks: no keys yet; calls with tokens are UNAVAILABLE until there are");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Follows what changes outside while the service runs: certificates, keys and sessions.
fn keep_fresh(tls: Option<&Arc<Tls>>, guard: &Arc<Guard>, tasks: &TaskTracker, stop: &CancellationToken) {
    if let Some(tls) = tls {
        tasks.spawn(Arc::clone(tls).keep_fresh(stop.clone()));
    }
    if let Some(sessions) = guard.sessions() {
        tasks.spawn(Arc::clone(sessions).run(stop.clone()));
    }
    if guard.tokens().is_some() {
        let (guard, stop) = (Arc::clone(guard), stop.clone());
        tasks.spawn(async move {
            if let Some(tokens) = guard.tokens() {
                tokens.keys.keep_fresh(stop).await;
            }
        });
    }
}

async fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Bind { address, setting, cause })
}

fn local(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener has an address")
}

async fn serve_metrics(listener: TcpListener, ledger: Ledger, stop: CancellationToken) {
    let render = move || async move {
        let metrics = ledger.metrics();
        metrics.set_pool_usage(ledger.pool().usage());
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
    };
    let router = Router::new().route("/metrics", get(render));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let cut = async {
        stop.cancelled().await;
        sleep(LAST_SCRAPE).await;
    };
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                tracing::warn!(%error, "metrics are no longer served");
            }
        }
        // A connection that says nothing would hold up the stop.
        () = cut => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(key: &str, value: &str, cores: usize) -> usize {
        let flags = vec![(key.to_owned(), value.to_owned())];
        worker_threads(&Config::load(None, &flags).expect("the settings are right"), cores)
    }

    #[test]
    fn cores_are_shared_with_a_postgresql_that_is_here() {
        let here = [
            "",
            "postgres://me@localhost/x",
            "postgres://me@127.0.0.1:5433/x",
            "postgres://me@[::1]/x",
            "postgres://me@%2Frun%2Fpostgresql/x",
            "postgres:///x?host=/run/postgresql",
        ];
        for url in here {
            assert_eq!([1, 2, 3, 8].map(|cores| threads("database.url", url, cores)), [1, 1, 2, 4], "{url}");
        }
        for url in ["postgres://me@db.example/x", "postgresql://10.0.0.1/x"] {
            assert_eq!([1, 2, 3, 8].map(|cores| threads("database.url", url, cores)), [1, 2, 3, 8], "{url}");
        }
        assert_eq!(threads("server.worker_threads", "3", 2), 3);
    }
}
