//! The database: the one that the settings name, or an embedded one.

use std::{path::PathBuf, time::Duration};

use sqlx::postgres::PgConnectOptions;

use super::error::StartError;
use crate::{
    config::Config,
    embedded::{Embedded, EmbeddedOptions, default_data_dir},
    store::{
        Pool, PoolSettings,
        schema::{self, SchemaError},
    },
};

/// The threads that serve, on a machine with `cores`.
pub fn worker_threads(config: &Config, cores: usize) -> usize {
    match config.server.worker_threads {
        0 if Database::shares_the_machine(config) => cores.div_ceil(2),
        0 => cores,
        threads => threads,
    }
}

/// The database that the settings name, or an embedded one.
pub struct Database {
    /// How to connect.
    pub options: PgConnectOptions,
    embedded: Option<Embedded>,
}

impl Database {
    /// Finds the database, and starts it if it is embedded.
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

    /// Whether it runs on this machine.
    fn shares_the_machine(config: &Config) -> bool {
        let url = config.database.url.expose();
        let is_here = |options: PgConnectOptions| {
            options.get_socket().is_some() || ["localhost", "127.0.0.1", "[::1]"].contains(&options.get_host())
        };
        url.is_empty() || url.parse().is_ok_and(is_here)
    }

    /// Brings the schema up to date, or checks that it is. Waits for a database that is away, for as long as `patience`.
    pub async fn prepare(&self, migrate: bool, patience: Duration) -> Result<usize, SchemaError> {
        schema::prepare(&self.options, migrate, patience).await
    }

    /// The pool of connections that the settings describe.
    pub fn pool(&self, config: &Config) -> Pool {
        let settings = &config.database;
        let settings = PoolSettings {
            max_connections: settings.max_connections,
            acquire_timeout: settings.acquire_timeout,
            max_lifetime: settings.max_lifetime,
            statement_timeout: settings.statement_timeout,
            idle_in_transaction_session_timeout: settings.idle_in_transaction_session_timeout,
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

    /// Stops the database if it is embedded.
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
        // During a rolling restart two servers share it.
        max_connections: EmbeddedOptions::durable(&data_dir)
            .max_connections
            .max(2 * config.database.max_connections + 20),
        ..EmbeddedOptions::durable(data_dir)
    }
}

#[cfg(test)]
mod tests;
