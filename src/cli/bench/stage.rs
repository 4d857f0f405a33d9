//! A stage: a database of its own and a server on it, in a process of its own, so that its memory and
//! its processor time are its own too.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use http::HeaderValue;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tonic::{service::interceptor::InterceptedService, transport::Endpoint};

use super::{machine, pick::event_id};
use crate::{
    cli::{
        Failure,
        target::{Bearer, Wire},
    },
    embedded::Embedded,
    rpc::pb::{
        BatchCreateEventsRequest, CreateEventRequest, Event, EventLimits, event_service_client::EventServiceClient,
    },
};

/// 16 MiB each, and fewer than `min_wal_size` allows.
const LOG_SEGMENTS: u32 = 24;

/// How long a server may take to serve, and to stop.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Events created in one call.
const BATCH: u32 = 1000;
/// Nothing lapses while it is measured, for nobody.
const HOLD_SECONDS: i64 = 30 * 24 * 3600;
/// As many units as an event can have: nothing sells out.
const CAPACITY: i32 = 1_000_000_000;

/// A database and the server on it.
pub struct Stage {
    /// Where the server serves.
    pub address: SocketAddr,
    /// The database.
    pub database: PgConnectOptions,
    /// The database, for programs on libpq.
    pub url: String,
    /// What a call has to show to the server, if it asks.
    pub bearer: Option<HeaderValue>,
    server: Child,
    /// Successes that the server told us of.
    pub acknowledged: u64,
    /// Calls of which we do not know what they did.
    pub unknown: u64,
    versions_before: i64,
}

/// Makes the database of this name anew, or keeps the one that is there.
pub async fn database(embedded: &Embedded, name: &str, keep: bool) -> Result<PgConnectOptions, Failure> {
    let mut admin = embedded.connect_options().connect().await?;
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut admin)
        .await?;
    if there && !keep {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut admin).await?;
    }
    if !there || !keep {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
    }
    admin.close().await?;
    Ok(embedded.connect_options().database(name))
}

impl Stage {
    /// Starts a server on this database, with these arguments before ours.
    pub async fn start(embedded: &Embedded, database: PgConnectOptions, arguments: &[String]) -> Result<Self, Failure> {
        let name = database.get_database().ok_or("the database has no name")?;
        let url = embedded.url().replacen("///reservd?", &format!("///{name}?"), 1);
        let mut server = Command::new(std::env::current_exe()?)
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--set", "server.metrics_listen=", "--set", "telemetry.log=warn"])
            .args(["--set", &format!("database.url={url}"), "serve"])
            // Ctrl-C is ours to handle.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let told = server.stderr.take().ok_or("the server has no standard error")?;
        let mut lines = BufReader::new(told).lines();
        let found = timeout(START_LIMIT, async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await? {
                match line.strip_prefix("reservd serves on ") {
                    Some(address) => return Ok(address.parse()?),
                    None => said.push(line),
                }
            }
            Err::<SocketAddr, Failure>(format!("the server did not start: {}", said.join(" | ")).into())
        });
        let address = found.await.map_err(|_| "the server did not start in time")??;
        // What it complains about is worth seeing.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("server: {line}");
            }
        });
        Ok(Self { address, database, url, bearer: None, server, acknowledged: 0, unknown: 0, versions_before: 0 })
    }

    /// The same stage, with what has to be shown to its server.
    pub fn with_bearer(self, bearer: HeaderValue) -> Self {
        Self { bearer: Some(bearer), ..self }
    }

    /// The process of the server.
    pub fn process(&self) -> u32 {
        self.server.id().unwrap_or_default()
    }

    /// A client of the server, for everything that is not measured.
    pub async fn events(&self) -> Result<EventServiceClient<Wire>, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?;
        let bearer = Bearer::new(self.bearer.clone());
        Ok(EventServiceClient::new(InterceptedService::new(endpoint.connect().await?, bearer)))
    }

    /// A connection to the database beside the server.
    pub async fn sql(&self) -> Result<PgConnection, Failure> {
        Ok(self.database.connect().await?)
    }

    /// Creates the hot event and `count` others, for the service and where wanted for the peers.
    pub async fn create_events(&self, count: u32, for_peers: bool) -> Result<(), Failure> {
        let mut client = self.events().await?;
        let numbers: Vec<u32> = (0..=count).collect();
        for numbers in numbers.chunks(BATCH as usize) {
            let ours = numbers.iter().map(|number| event_id(*number));
            self.create(&mut client, ours.collect()).await?;
            if for_peers {
                let theirs = numbers.iter().map(|number| format!("peer-{number}"));
                self.create(&mut client, theirs.collect()).await?;
            }
        }
        Ok(())
    }

    async fn create(&self, client: &mut EventServiceClient<Wire>, ids: Vec<String>) -> Result<(), Failure> {
        let requests = ids.into_iter().map(|event_id| CreateEventRequest {
            event: Some(Event {
                event_id,
                capacity: CAPACITY,
                limits: Some(EventLimits {
                    hold_ttl_default: Some(prost_types::Duration { seconds: HOLD_SECONDS, nanos: 0 }),
                    hold_ttl_max: Some(prost_types::Duration { seconds: HOLD_SECONDS, nanos: 0 }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
        client.batch_create_events(BatchCreateEventsRequest { requests: requests.collect() }).await?;
        Ok(())
    }

    /// Takes note of the versions that the service's events have: from now on each success makes one.
    pub async fn note_versions(&mut self) -> Result<(), Failure> {
        self.versions_before = self.versions().await?;
        Ok(())
    }

    /// By how much the versions of the service's events have risen.
    pub async fn version_increments(&self) -> Result<i64, Failure> {
        Ok(self.versions().await? - self.versions_before)
    }

    async fn versions(&self) -> Result<i64, Failure> {
        const SQL: &str = "-- bench::versions
            SELECT COALESCE(sum(version), 0)::bigint FROM events WHERE event_id >= 'bench-' AND event_id < 'bench.'";
        Ok(sqlx::query_scalar(SQL).fetch_one(&mut self.sql().await?).await?)
    }

    /// Makes segments of PostgreSQL's log that it uses again from then on, as one does that has run for a
    /// while. In a new cluster everybody waits, some 45 ms each time, until the next has been made.
    pub async fn prepare_log(&self) -> Result<(), Failure> {
        let mut sql = self.sql().await?;
        for _ in 0..LOG_SEGMENTS {
            // Without a word in it a segment is not left for the next.
            let next = "SELECT pg_logical_emit_message(false, 'reservd', ''); SELECT pg_switch_wal()";
            sqlx::raw_sql(next).execute(&mut sql).await?;
        }
        self.checkpoint().await
    }

    /// Writes out what is in memory, so that no measurement pays for the one before.
    pub async fn checkpoint(&self) -> Result<(), Failure> {
        sqlx::raw_sql("CHECKPOINT").execute(&mut self.sql().await?).await?;
        Ok(())
    }

    /// Forgets the most memory that the server has held so far.
    pub fn reset_peak_memory(&self) {
        machine::reset_peak_memory(self.process());
    }

    /// Stops the server in order.
    pub async fn stop(mut self) -> Result<(), Failure> {
        if let Some(process) = self.server.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(process), Signal::SIGTERM)?;
        }
        let status = timeout(STOP_LIMIT, self.server.wait()).await.map_err(|_| "the server did not stop in time")??;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}
