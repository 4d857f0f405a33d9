//! The command line.
//!
//! [`serve`] runs a server. `event`, `reservation`, `waitlist`, `watch` and `top` are clients of its public API: `target`
//! finds the server by the settings that the server reads too, `wire` is the connection, `diagnosis` says what answers
//! where no gRPC server does, `call_error` makes one plain line of a status.

mod call_error;
mod client;
mod diagnosis;
mod documents;
mod event;
pub mod event_file;
mod failure;
mod output;
mod probe;
mod reservation;
mod serve;
mod server;
mod sessions;
mod settings;
mod table;
mod target;
mod text;
mod tls;
mod token;
mod top;
mod waitlist;
mod watch;
mod wire;

use clap::{Parser, Subcommand};

pub use self::failure::{Exit, Failure};
use self::{
    failure::EXIT_CODES,
    output::print,
    settings::{ServerSettings, Settings},
    target::Target,
};
use crate::{app::Database, config::DEFAULTS, telemetry::traces};

/// The gRPC reservation ledger: never oversells, never books one user twice, never loses a response.
#[derive(Debug, Parser)]
#[command(name = "reservd", version = env!("BUILD_VERSION"), max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve(Box<ServerSettings>),
    /// Work with events
    #[command(subcommand)]
    Event(Box<event::EventCommand>),
    /// Work with reservations
    #[command(subcommand)]
    Reservation(Box<reservation::ReservationCommand>),
    /// Work with waitlists
    #[command(subcommand)]
    Waitlist(Box<waitlist::WaitlistCommand>),
    /// Show the changes of events while they happen
    Watch(Box<watch::Watch>),
    /// Show the events with the most load, again and again
    Top(Box<top::Top>),
    /// Exit with 0 if a server is healthy
    Healthcheck(Box<Target>),
    /// Migrate the database schema
    Migrate(Settings),
    /// Run concurrent operations on a scratch event and check every invariant
    Probe(Box<probe::Probe>),
    /// Open, list and revoke sessions directly in Redis (sessions.url)
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Create a token for development, and its keys
    Token(Box<token::Token>),
    /// Print the settings in force, secrets redacted
    Config {
        /// Print the documented defaults instead
        #[arg(long)]
        defaults: bool,
        #[command(flatten)]
        settings: ServerSettings,
    },
    /// Print the completions of a shell
    Completions(documents::Completions),
    /// Print the man page
    Man(documents::Man),
}

impl Cli {
    /// The number of worker threads for the command.
    pub fn worker_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Invalid settings are reported when the command loads them again.
        let of_server = |settings: &ServerSettings| {
            settings.load().map_or(cores, |config| crate::app::worker_threads(&config, cores))
        };
        match &self.command {
            None => of_server(&ServerSettings::default()),
            Some(Command::Serve(settings)) => of_server(settings),
            Some(_) => cores,
        }
    }

    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self.command.unwrap_or_else(|| Command::Serve(Box::default())) {
            Command::Serve(settings) => serve::serve(settings.load()?).await,
            Command::Event(command) => command.run().await,
            Command::Reservation(command) => command.run().await,
            Command::Waitlist(command) => command.run().await,
            Command::Watch(watch) => watch.run().await,
            Command::Top(top) => top.run().await,
            Command::Healthcheck(target) => target.check_health().await,
            Command::Migrate(settings) => migrate(&settings).await,
            Command::Probe(probe) => probe.run().await,
            Command::Sessions(command) => command.run().await,
            Command::Token(token) => token.run(),
            Command::Config { defaults: true, .. } => print(DEFAULTS),
            Command::Config { defaults: false, settings } => print(settings.load()?.to_toml()),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
        }
    }
}

async fn migrate(settings: &Settings) -> Result<(), Failure> {
    let config = settings.load()?;
    // While it waits for the database, the log says so.
    let _traces = traces::init(&config.telemetry)?;
    let database = Database::open(&config).await?;
    let applied = database.prepare(true, config.database.connect_timeout).await;
    database.close().await;
    print(format_args!("{} migrations applied; the schema is up to date\n", applied?))
}
