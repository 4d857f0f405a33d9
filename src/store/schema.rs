//! The schema: migrated or checked before the server starts.

use std::{io, time::Duration};

use humantime::format_duration;
use sqlx::{
    Connection, Executor, PgConnection,
    migrate::{AppliedMigration, Migrate, MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::{Instant, sleep, timeout};

use super::error::is_outage;

/// How long the database may take to answer at the start. Without a limit, an address that drops packets takes minutes.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The pauses between attempts to reach it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The migrations that this program was built with.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Why the schema can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database can't be reached.
    #[error("cannot connect to the database at {at}: {cause}")]
    Connect {
        /// Its host and port, or its socket.
        at: String,
        /// Why not.
        #[source]
        cause: sqlx::Error,
    },
    /// A newer program has migrated the database.
    #[error(
        "the database schema is newer (migration {found}) than this reservd (migration {known}): use a newer reservd"
    )]
    Newer {
        /// The newest migration that the database has.
        found: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// Migrations are missing.
    #[error(
        "the database schema is older (migration {found}) than this reservd needs ({known}): run `reservd migrate`"
    )]
    Older {
        /// The newest migration that the database has; 0 if none.
        found: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// Other migrations made the database: those of a reservd from before the first release.
    #[error(
        "the database was made by a reservd from before the first release, whose tables cannot be carried over: use an \
         empty database (of the embedded PostgreSQL: another embedded.data_dir, or remove the old folder)"
    )]
    Foreign,
    /// A migration failed.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[source] MigrateError),
}

impl SchemaError {
    /// Whether waiting may mend it.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connect { cause: sqlx::Error::Io(_), .. } => true,
            Self::Connect { cause: sqlx::Error::Database(error), .. } => {
                error.code().is_some_and(|code| is_outage(&code))
            }
            _ => false,
        }
    }
}

/// Brings the schema up to date or checks that it is, and returns the number of migrations that it has applied. While
/// the database is away it tries again, for as long as `patience`.
pub async fn prepare(
    options: &PgConnectOptions,
    is_to_migrate: bool,
    patience: Duration,
) -> Result<usize, SchemaError> {
    let (end, mut pause) = (Instant::now() + patience, FIRST_PAUSE);
    loop {
        let prepared = if is_to_migrate { migrate(options).await } else { check(options).await.map(|()| 0) };
        match prepared {
            Err(error) if error.may_pass() && Instant::now() + pause <= end => {
                let (again_in, left) =
                    (format_duration(pause), format_duration(Duration::from_secs((end - Instant::now()).as_secs())));
                tracing::warn!(%error, %again_in, gives_up_in = %left, "waiting for the database");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            prepared => return prepared,
        }
    }
}

/// Applies the missing migrations and returns their number. Several servers may do this at once: they queue for a lock.
pub async fn migrate(options: &PgConnectOptions) -> Result<usize, SchemaError> {
    let mut conn = connect(options).await?;
    // sqlx's own lock, until the connection ends: CREATE TABLE IF NOT EXISTS fails where two sessions run it at once.
    conn.lock().await.map_err(SchemaError::Migrate)?;
    let table = MIGRATIONS.table_name.as_ref();
    conn.ensure_migrations_table(table).await.map_err(SchemaError::Migrate)?;
    let before = applied(&mut conn).await?;
    refuse_other(&before)?;
    MIGRATIONS.run(&mut conn).await.map_err(SchemaError::Migrate)?;
    let after = applied(&mut conn).await?;
    let _ = conn.close().await;
    Ok(after.len() - before.len())
}

/// Makes sure that the schema is the one this program needs.
pub async fn check(options: &PgConnectOptions) -> Result<(), SchemaError> {
    let mut conn = connect(options).await?;
    // Reading the table of migrations must not create it: the server's role may lack the right.
    let applied = if is_begun(&mut conn).await? { applied(&mut conn).await? } else { Vec::new() };
    refuse_other(&applied)?;
    let (found, known) = (newest(&applied), newest_known());
    if found < known { Err(SchemaError::Older { found, known }) } else { Ok(()) }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, SchemaError> {
    let connected = timeout(CONNECT_LIMIT, async {
        let mut conn = PgConnection::connect_with(options).await?;
        // PostgreSQL's notices of what exists already are noise.
        conn.execute("SET client_min_messages = warning").await?;
        Ok(conn)
    });
    let too_late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    let connected = connected.await.unwrap_or_else(|_| Err(too_late()));
    connected.map_err(|cause| SchemaError::Connect { at: place(options), cause })
}

/// Where the database is, without the user and the password.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

async fn is_begun(conn: &mut PgConnection) -> Result<bool, SchemaError> {
    const SQL: &str = "-- schema::is_begun\nSELECT to_regclass($1) IS NOT NULL";
    let found = sqlx::query_scalar(SQL).bind(MIGRATIONS.table_name.as_ref()).fetch_one(conn);
    found.await.map_err(|error| SchemaError::Migrate(error.into()))
}

/// The migrations that the database's table of migrations lists.
async fn applied(conn: &mut PgConnection) -> Result<Vec<AppliedMigration>, SchemaError> {
    let table = MIGRATIONS.table_name.as_ref();
    conn.list_applied_migrations(table).await.map_err(SchemaError::Migrate)
}

/// Refuses a database that this program's migrations did not make, or that goes beyond them.
fn refuse_other(applied: &[AppliedMigration]) -> Result<(), SchemaError> {
    let is_other = |applied: &AppliedMigration| {
        let mut known = MIGRATIONS.iter().filter(|known| known.version == applied.version);
        known.any(|known| known.checksum != applied.checksum)
    };
    if applied.iter().any(is_other) {
        return Err(SchemaError::Foreign);
    }
    let (found, known) = (newest(applied), newest_known());
    if found > known { Err(SchemaError::Newer { found, known }) } else { Ok(()) }
}

fn newest(applied: &[AppliedMigration]) -> i64 {
    applied.iter().map(|migration| migration.version).max().unwrap_or(0)
}

fn newest_known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}
