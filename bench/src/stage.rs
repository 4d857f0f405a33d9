//! A stage: a database of its own and a server on it, in a process of its own, so that its memory and
//! its processor time are its own too.

use http::{HeaderValue, header::AUTHORIZATION};
use reservd::embedded::Embedded;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tonic::{Request, transport::Channel};

use crate::{
    Failure,
    pb::{BatchCreateEventsRequest, CreateEventRequest, Event, EventLimits, event_service_client::EventServiceClient},
    pick::event_id,
    program::{Program, Server},
};

/// 16 MiB each, and fewer than `min_wal_size` allows.
const LOG_SEGMENTS: u32 = 24;

/// Events created in one call.
const BATCH: u32 = 1000;
/// No hold lapses while it is measured.
const HOLD_SECONDS: i64 = 30 * 24 * 3600;
/// As many units as an event can have: nothing sells out.
const CAPACITY: i32 = 1_000_000_000;

/// A database and the server on it.
pub struct Stage {
    /// The server.
    pub server: Server,
    /// The database.
    pub database: PgConnectOptions,
    /// The database, for programs on libpq.
    pub url: String,
    /// What a call has to show to the server, if it asks.
    pub bearer: Option<HeaderValue>,
    /// Successes that callers were answered.
    pub acknowledged: u64,
    /// Calls whose outcome the callers do not know.
    pub unknown: u64,
    versions_before: i64,
}

/// Makes a new database of this name, or keeps the one that is there.
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
    /// Starts a server of this program on this database.
    pub async fn start(embedded: &Embedded, database: PgConnectOptions, program: &Program) -> Result<Self, Failure> {
        let name = database.get_database().ok_or("the database has no name")?;
        let url = embedded.url().replacen("///reservd?", &format!("///{name}?"), 1);
        let here = format!("database.url={url}");
        let server = program.serve(&["--set", "telemetry.log=warn,reservd::app=info", "--set", &here]).await?;
        Ok(Self { server, database, url, bearer: None, acknowledged: 0, unknown: 0, versions_before: 0 })
    }

    /// The same stage, with what has to be shown to its server.
    pub fn with_bearer(self, bearer: HeaderValue) -> Self {
        Self { bearer: Some(bearer), ..self }
    }

    /// A client of the server, for everything that is not measured.
    pub async fn events(&self) -> Result<EventServiceClient<Channel>, Failure> {
        Ok(EventServiceClient::connect(format!("http://{}", self.server.address)).await?)
    }

    /// A call that shows what has to be shown.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().as_mut().insert(AUTHORIZATION, bearer.clone());
        }
        request
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

    async fn create(&self, client: &mut EventServiceClient<Channel>, ids: Vec<String>) -> Result<(), Failure> {
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
        let batch = BatchCreateEventsRequest { requests: requests.collect(), ..Default::default() };
        client.batch_create_events(self.request(batch)).await?;
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
    /// while. In a new cluster all writers wait, some 45 ms each time, for the next to be made.
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
}
