//! The command line.

mod diagnosis;
pub mod event_file;
mod export;
mod failure;
mod import;
mod probe;
mod serve;
mod sessions;
mod target;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::failure::Failure;
use self::target::Target;
use crate::{
    app::Database,
    config::{Config, DEFAULTS, Flags},
};

/// The gRPC reservation ledger: never oversells, never books one user twice, never loses a response.
#[derive(Debug, Parser)]
#[command(name = "reservd", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Settings {
    /// A TOML file of settings that override the defaults
    #[arg(long, global = true, value_name = "FILE", env = "RESERVD_CONFIG")]
    config: Option<PathBuf>,
    /// Any setting, such as server.listen=0.0.0.0:50051; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// The address of the gRPC server (server.listen)
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The data folder of the PostgreSQL that reservd runs itself (embedded.data_dir)
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve,
    /// Migrate the database schema
    Migrate,
    /// Exit with 0 if a server is healthy
    Healthcheck(Target),
    /// Run concurrent operations on a scratch event and check every invariant
    Probe(probe::Probe),
    /// Work with events
    #[command(subcommand)]
    Events(EventsCommand),
    /// Open, list and revoke sessions directly in Redis (sessions.url)
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Create a token for development, and its keys
    Token(token::Token),
    /// Print the settings in force, secrets redacted
    Config {
        /// Print the documented defaults instead
        #[arg(long)]
        defaults: bool,
    },
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Create the events of a CSV file; safe to repeat
    Import(import::Import),
    /// Write events as a CSV file, which can be imported
    Export(export::Export),
}

impl Cli {
    /// The number of worker threads for the command.
    pub fn worker_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match &self.command {
            // Invalid settings are reported when the command loads them again.
            None | Some(Command::Serve) => {
                self.settings.load().map_or(cores, |config| crate::app::worker_threads(&config, cores))
            }
            Some(_) => cores,
        }
    }

    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let settings = self.settings;
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve::serve(settings.load()?).await,
            Command::Migrate => migrate(settings.load()?).await,
            Command::Healthcheck(target) => target.check_health().await,
            Command::Probe(probe) => probe.run(|| settings.load()).await,
            Command::Events(EventsCommand::Import(import)) => import.run().await,
            Command::Events(EventsCommand::Export(export)) => export.run().await,
            Command::Sessions(command) => command.run(settings.load()?).await,
            Command::Token(token) => token.run(),
            Command::Config { defaults } => {
                print!("{}", if defaults { DEFAULTS.to_owned() } else { settings.load()?.to_toml() });
                Ok(())
            }
        }
    }
}

impl Settings {
    fn load(&self) -> Result<Config, Failure> {
        let mut flags: Flags = self.set.clone();
        flags.extend(self.listen.iter().map(|listen| ("server.listen".to_owned(), listen.clone())));
        flags.extend(self.data_dir.iter().map(|folder| ("embedded.data_dir".to_owned(), folder.clone())));
        Ok(Config::load(self.config.as_deref(), &flags)?)
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

async fn migrate(config: Config) -> Result<(), Failure> {
    let database = Database::open(&config).await?;
    let applied = database.prepare(true).await;
    database.close().await;
    println!("{} migrations applied; the schema is up to date", applied?);
    Ok(())
}
