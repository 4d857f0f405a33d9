//! One PostgreSQL for all tests of a process, and one database for each test.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use reservd::{
    embedded::{Embedded, EmbeddedOptions},
    store::schema,
    telemetry::metrics::Metrics,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::sync::{Mutex, OnceCell};

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    embedded: Embedded,
    template: String,
    /// `CREATE DATABASE` needs exclusive access to its template.
    turn: Mutex<()>,
}

/// The database of one test, which a later run drops.
#[derive(Clone)]
pub struct TestDatabase {
    pub options: PgConnectOptions,
    pub url: String,
    /// The metrics of the servers on it, if they run in this process.
    services: Arc<std::sync::Mutex<Vec<Arc<Metrics>>>>,
}

impl TestDatabase {
    /// A migrated, empty database.
    pub async fn new() -> Self {
        let cluster = cluster().await;
        let _turn = cluster.turn.lock().await;
        Self::create(cluster, &format!("TEMPLATE {}", cluster.template)).await
    }

    /// A database without a schema.
    pub async fn unmigrated() -> Self {
        Self::create(cluster().await, "").await
    }

    async fn create(cluster: &Cluster, template: &str) -> Self {
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = admin(&cluster.embedded).await;
        execute(&mut admin, format!("CREATE DATABASE {name} {template}")).await;
        let options = cluster.embedded.connect_options().database(&name);
        Self {
            options,
            url: cluster.embedded.url().replace("/reservd?", &format!("/{name}?")),
            services: Arc::default(),
        }
    }

    /// Registers a server on it.
    pub fn serves(&self, metrics: Arc<Metrics>) {
        self.services.lock().expect("not poisoned").push(metrics);
    }

    /// The number of commands in the lanes of each server on it.
    pub fn commands_in_lanes(&self) -> Vec<usize> {
        let services = self.services.lock().expect("not poisoned");
        services.iter().map(|metrics| usize::try_from(metrics.batch_commands.get()).unwrap_or(0)).collect()
    }

    /// A connection of the test.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("a connection to the database")
    }
}

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async {
            let embedded = own_postgres().await;
            drop_leftovers(&embedded).await;
            let template = format!("template_{}", std::process::id());
            let mut admin = admin(&embedded).await;
            execute(&mut admin, format!("CREATE DATABASE {template}")).await;
            let options = embedded.connect_options().database(&template);
            schema::migrate(&options).await.expect("the migrations apply");
            Cluster { embedded, template, turn: Mutex::new(()) }
        })
        .await
}

/// A PostgreSQL that this process owns: of two concurrent processes, the second one does not join as a guest but starts
/// its own server, in the next folder.
async fn own_postgres() -> Embedded {
    let mut place = 0;
    loop {
        let options = EmbeddedOptions::for_tests(folder(place));
        let embedded = Embedded::start(&options).await.expect("PostgreSQL starts");
        if embedded.is_owner() {
            return embedded;
        }
        place += 1;
    }
}

/// A stable folder for this checkout, since a warm start is fast. The user that PostgreSQL runs as must be able to enter
/// it, unlike perhaps the checkout.
fn folder(place: u32) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
    let folder = std::env::temp_dir().join(format!("reservd-tests-{:x}-{place}", hasher.finish()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written to");
    folder
}

/// Drops the databases of runs whose process has ended.
async fn drop_leftovers(embedded: &Embedded) {
    let mut admin = admin(embedded).await;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE datname ~ '^(test|template)_[0-9]+'")
            .fetch_all(&mut admin)
            .await
            .expect("the catalogue can be read");
    for name in names {
        let pid = name.split('_').nth(1).unwrap_or_default();
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            execute(&mut admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

async fn admin(embedded: &Embedded) -> PgConnection {
    PgConnection::connect_with(&embedded.connect_options()).await.expect("a connection to PostgreSQL")
}

async fn execute(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql.as_str())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
