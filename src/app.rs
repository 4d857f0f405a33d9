//! The composition root: bind, start, drain, stop, in that order.

mod database;
mod error;
mod exposure;
mod metrics_endpoint;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;
use tracing::field::display;

pub use self::{
    database::{Database, worker_threads},
    error::StartError,
};
use self::{exposure::refuse_exposure, metrics_endpoint::serve_metrics};
use crate::{
    auth::{guard::Guard, sessions::Sessions},
    broker,
    config::{self, Config},
    net::{http_listener::HttpListener, tls::Tls},
    ops::Ledger,
    rpc::{
        health,
        layers::admission::Gate,
        server::{self, Parts},
    },
    store::Pool,
    telemetry::metrics::Metrics,
    worker,
};

/// How long new calls are still served after health checks answer NOT_SERVING, so that load balancers can follow.
const NOTICE: Duration = Duration::from_millis(100);
/// The connections of the workers and of health checks: expiry needs two.
const BACKGROUND_CONNECTIONS: u32 = 4;
/// How long workers may take to stop, after the drain.
const WORKER_LIMIT: Duration = Duration::from_secs(10);

/// A running service.
pub struct App {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Where metrics are served.
    pub metrics_address: Option<SocketAddr>,
    database: Database,
    ledger: Ledger,
    background: Pool,
    health: HealthReporter,
    gate: Arc<Gate>,
    /// Ends the listeners.
    stop_serving: CancellationToken,
    /// Ends the workers.
    stop_working: CancellationToken,
    /// Ends what keeps certificates, keys and sessions fresh, after the last call.
    stop_guarding: CancellationToken,
    workers: TaskTracker,
    server: JoinHandle<()>,
    drain_limit: Duration,
}

impl App {
    /// Starts everything, and returns once it serves. While it waits for its database, health checks are answered with
    /// NOT_SERVING, and all other calls are refused.
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
        let ledger = Ledger::new(database.pool(config), config.execution, config.watch, Arc::clone(&metrics))
            .with_hold_limit(config.limits.live_holds_per_user);

        let (health, health_service) = health::service().await;
        let gate = Arc::<Gate>::default();
        let [stop_serving, stop_working, stop_guarding] = [(); 3].map(|()| CancellationToken::new());
        let workers = TaskTracker::new();
        let (address, metrics_address) = (local(&listener), metrics_listener.as_ref().map(local));
        keep_fresh(tls.as_ref(), &guard, &workers, &stop_guarding);
        let parts = Parts { ledger: ledger.clone(), metrics, guard, tls, gate: Arc::clone(&gate) };
        let (settings, stop) = (config.clone(), stop_serving.clone());
        let server = tokio::spawn(async move { server::serve(&settings, parts, health_service, listener, stop).await });
        if let Some(listener) = metrics_listener {
            let listener = HttpListener::new(listener, ledger.metrics());
            workers.spawn(serve_metrics(listener, ledger.clone(), stop_working.clone()));
        }
        let background = ledger.pool().beside(BACKGROUND_CONNECTIONS);
        let app = Self {
            address,
            metrics_address,
            database,
            ledger,
            background,
            health,
            gate,
            stop_serving,
            stop_working,
            stop_guarding,
            workers,
            server,
            drain_limit: config.server.drain_limit,
        };
        match app.begin(config, sessions).await {
            Ok(()) => Ok(app),
            Err(error) => {
                app.abandon();
                Err(error)
            }
        }
    }

    /// Reaches the database, starts the workers, and takes calls.
    async fn begin(&self, config: &Config, sessions: Option<Arc<Sessions>>) -> Result<(), StartError> {
        let migrated = self.database.prepare(config.database.migrate, config.database.connect_timeout).await?;
        let ledger = self.ledger.with_pool(self.background.clone());
        worker::start(config, &ledger, self.health.clone(), &self.workers, &self.stop_working);
        broker::start(config, &self.ledger, sessions, &self.workers, &self.stop_working).await?;
        self.gate.open();
        health::set_serving(&self.health, true).await;

        let (address, database) = (self.address, self.database.describe(config));
        let metrics_address = self.metrics_address.map(display);
        let (tls, authentication) = (config.has_tls(), config.has_authentication());
        if !authentication {
            let loopback_only = config::is_loopback(address);
            tracing::warn!(loopback_only, "authentication is off: every caller has full access");
        }
        tracing::info!(%address, metrics_address, database, migrated, tls, authentication, "reservd serves");
        Ok(())
    }

    /// Ends what was begun of a start that failed.
    fn abandon(self) {
        [&self.stop_working, &self.stop_serving, &self.stop_guarding].into_iter().for_each(CancellationToken::cancel);
        self.server.abort();
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.ledger.metrics()
    }

    /// Its use cases.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waits until the server ends by itself, which it does only when it fails.
    pub async fn failed(&mut self) {
        match (&mut self.server).await {
            Ok(()) => tracing::error!("the server ended by itself"),
            Err(error) => tracing::error!(%error, "the server ended by itself"),
        }
    }

    /// Stops: answers NOT_SERVING, refuses new calls, finishes the running ones within the drain limit, stops the
    /// workers, and closes the database.
    pub async fn stop(self) {
        self.stop_before(&CancellationToken::new()).await;
    }

    /// As [`App::stop`], but waits for nothing any more once `hurry` is cancelled, except for its own PostgreSQL, which
    /// stops in order.
    pub async fn stop_before(self, hurry: &CancellationToken) {
        let limit = Instant::now() + self.drain_limit;
        let drain = Drain { limit, hurry };
        self.stop_working.cancel();
        health::set_serving(&self.health, false).await;
        drain.wait_for(sleep(NOTICE)).await;
        self.gate.drain();
        self.stop_serving.cancel();
        health::end_watches(&self.health).await;
        self.ledger.end_watches();
        let in_words = humantime::format_duration(self.drain_limit);
        if !drain.wait_for(self.server).await {
            tracing::warn!(limit = %in_words, "calls were still running at the drain limit, and were cut off");
        }
        self.stop_guarding.cancel();
        // What was begun for callers that are gone still runs to its end.
        let drain = Drain { limit: limit.max(Instant::now() + Duration::from_secs(1)), hurry };
        if !drain.wait_for(self.ledger.drained()).await {
            tracing::warn!("transactions were still running at the drain limit; PostgreSQL rolls them back");
        }
        self.workers.close();
        let drain = Drain { limit: Instant::now() + WORKER_LIMIT, hurry };
        if !drain.wait_for(self.workers.wait()).await {
            tracing::warn!(limit = %humantime::format_duration(WORKER_LIMIT), "background work did not end in time");
        }
        drain.wait_for(self.ledger.pool().close()).await;
        drain.wait_for(self.background.close()).await;
        self.database.close().await;
    }

    /// The calls and streams that run.
    pub fn calls(&self) -> i64 {
        self.ledger.metrics().rpcs_in_flight.get()
    }

    /// How long a stop waits for calls.
    pub const fn drain_limit(&self) -> Duration {
        self.drain_limit
    }
}

/// How long a stop waits.
struct Drain<'a> {
    limit: Instant,
    hurry: &'a CancellationToken,
}

impl Drain<'_> {
    /// Whether the work ended in time.
    async fn wait_for<F: Future>(&self, work: F) -> bool {
        tokio::select! {
            biased;
            _ = work => true,
            () = sleep_until(self.limit) => false,
            () = self.hurry.cancelled() => false,
        }
    }
}

/// Gets the keys for tokens. A file that can't be read is an error of the settings; an issuer that does not answer must
/// not keep the service from starting.
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

/// Keeps certificates, keys and sessions fresh while the service runs.
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
