//! The database `reservd` in the private server: connects to it, and creates it if it is missing.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::error::EmbeddedError;
use super::folder::PORT;

/// The cluster's superuser. It has no password: the socket folder is private.
pub(super) const USER: &str = "reservd";
const DATABASE: &str = "reservd";

/// Exists in every cluster.
const MAINTENANCE_DATABASE: &str = "postgres";

pub(super) fn connect_options(socket_dir: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(USER)
        .database(DATABASE)
        .ssl_mode(PgSslMode::Disable)
}

pub(super) fn url(socket_dir: &Path) -> String {
    let host = percent_encoded(socket_dir.as_os_str().as_bytes());
    format!("postgresql:///{DATABASE}?host={host}&port={PORT}&user={USER}")
}

fn percent_encoded(bytes: &[u8]) -> String {
    let encode = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

/// Checks that the database accepts connections.
pub(super) async fn probe(socket_dir: &Path) -> Result<(), EmbeddedError> {
    let probed = async { connect_options(socket_dir).connect().await?.close().await };
    probed.await.map_err(unreachable(socket_dir))
}

/// Creates the database if it is missing. Checks this from a database that always exists, since PostgreSQL logs a
/// failed connection as FATAL.
pub(super) async fn create_if_missing(socket_dir: &Path) -> Result<(), EmbeddedError> {
    let options = connect_options(socket_dir).database(MAINTENANCE_DATABASE);
    let created = async {
        let mut connection = options.connect().await?;
        if !exists(&mut connection).await? {
            sqlx::raw_sql("CREATE DATABASE reservd").execute(&mut connection).await?;
        }
        connection.close().await
    };
    created.await.map_err(unreachable(socket_dir))
}

async fn exists(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let found = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(DATABASE).fetch_optional(connection);
    Ok(found.await?.is_some())
}

fn unreachable(socket_dir: &Path) -> impl FnOnce(sqlx::Error) -> EmbeddedError + '_ {
    |source| EmbeddedError::Connect { socket_dir: socket_dir.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_name_is_encoded_in_the_url() {
        let text = url(Path::new("/data/a b&c?é"));
        assert_eq!(text, "postgresql:///reservd?host=/data/a%20b%26c%3F%C3%A9&port=5432&user=reservd");
        let parsed: PgConnectOptions = text.parse().unwrap();
        assert_eq!(parsed.get_socket(), Some(&"/data/a b&c?é".into()));
    }
}
