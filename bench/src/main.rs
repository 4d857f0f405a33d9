//! `reservd-bench`: how fast reservd is, against what SQL alone does on the same PostgreSQL or against
//! another build of itself, and whether the counters are right in the end.
//!
//! In reading order: `scenario` is what is measured, `plan` in which order, `run` does it. `stage` is a
//! database with a server in a process of its own, which `program` finds and starts; `load` are the
//! callers, who talk through `wire`, arrive by `schedule`, choose events by `pick` and count in `tally`.
//! `peers` is pgbench, `seed` a full table, `guarded` a server with tokens, `verify` the end of every run.
//! `results` are asked by `comparison` and `targets`, and shown by `report`. `attacks` stands apart.

#![forbid(unsafe_code)]

mod attacks;
mod comparison;
mod guarded;
mod load;
mod machine;
mod options;
mod peers;
mod pick;
mod plan;
mod program;
mod report;
mod results;
mod run;
mod scenario;
mod schedule;
mod seed;
mod stage;
mod tally;
mod targets;
mod verify;
mod watchers;
mod wire;

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use reservd::{
    embedded::{Embedded, EmbeddedOptions},
    rpc::pb,
};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    attacks::Attacks, machine::Machine, options::Options, peers::Peers, program::Program, report::Report, run::Run,
};

/// Why a run failed, in one line.
type Failure = Box<dyn Error + Send + Sync>;

/// Enough for 64 clients of pgbench beside two servers.
const MAX_CONNECTIONS: u32 = 200;
/// How long the cores are watched before anything is measured; a quick run has less time.
const CORES_WATCHED: Duration = Duration::from_secs(4);
/// The settings of PostgreSQL that the report shows.
const TELLING: [&str; 8] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
];

/// Measures how fast reservd is, against SQL alone on the same PostgreSQL, and audits the events.
#[derive(Debug, Parser)]
#[command(name = "reservd-bench", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    attacks: Option<Attacks>,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli { attacks: Some(attacks), .. } => attacks.run().await,
        Cli { options, .. } => run(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reservd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    // Before anything is started: an interruption must not leave anything behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = options.server()?;
    let settings = server.output(&["config"]).await?;
    let out = std::path::absolute(&options.out)?;
    std::fs::create_dir_all(&out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    let folder = DataFolder::new(options.data_dir.as_deref())?;
    let embedded = Embedded::start(&postgres(&folder.path, &settings)?).await?;
    let report = tokio::select! {
        report = measure(options, server, settings, &embedded, &folder.path) => report,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("interrupted".into()),
    };
    embedded.stop().await?;
    drop(folder);

    let report = report?;
    report.print();
    let [json, html] = report.write(&out)?;
    println!("{}\n{}", html.display(), json.display());
    if report.verified.problems.is_empty() { Ok(()) } else { Err("the counters are wrong".into()) }
}

/// The PostgreSQL that the servers' settings ask for, in this folder.
fn postgres(folder: &Path, settings: &str) -> Result<EmbeddedOptions, Failure> {
    let settings: toml::Table = settings.parse()?;
    let given = |name: &str| settings.get("embedded")?.get(name)?.as_str().filter(|text| !text.is_empty());
    Ok(EmbeddedOptions {
        bin_dir: given("bin_dir").map(PathBuf::from),
        os_user: given("os_user").map(str::to_owned),
        max_connections: MAX_CONNECTIONS,
        ..EmbeddedOptions::durable(folder)
    })
}

async fn measure(
    options: &Options,
    server: Program,
    settings: String,
    embedded: &Embedded,
    folder: &Path,
) -> Result<Report, Failure> {
    if !embedded.is_owner() {
        return Err(format!("{} is in use by another reservd", folder.display()).into());
    }
    let plan = options.plan();
    let machine = Machine::look(folder, if options.quick { CORES_WATCHED / 20 } else { CORES_WATCHED });
    let peers = match plan.clients.is_empty() {
        true => None,
        false => Some(Peers::new(embedded, folder, plan.events).await?),
    };
    let (began, postgres) = look_at_postgres(embedded).await?;
    let version = server.output(&["--version"]).await?.trim().to_owned();
    let before = options.compared()?;
    let run = Run::new(embedded, &plan, &server, before.as_ref(), peers);
    let (results, verified) = run.carry_out(&folder.join("dev-keys")).await?;
    Ok(Report {
        began,
        version,
        optimised: !cfg!(debug_assertions),
        quick: options.quick,
        method: report::Method {
            rounds: plan.rounds,
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            seconds: plan.duration.as_secs_f64(),
            events: plan.events,
            filled_reservations: plan.filled.map(|fill| fill.reservations),
            request_ids: plan.request_ids,
            checkpoints: plan.checkpoints,
        },
        machine,
        postgres,
        settings,
        server: server.name(),
        compared_with: before.as_ref().map(Program::name),
        comparison: comparison::compare(&results),
        targets: options.targets.then(|| targets::targets(&results)),
        verified,
        results,
    })
}

/// The folder of the database: given and kept, or our own and removed.
struct DataFolder {
    path: PathBuf,
    ours: bool,
}

impl DataFolder {
    fn new(given: Option<&Path>) -> Result<Self, Failure> {
        if let Some(given) = given {
            return Ok(Self { path: given.to_owned(), ours: false });
        }
        let name = format!("reservd-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = program::scratch_parent().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self { path, ours: true })
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("reservd-bench: {} could not be removed: {error}", self.path.display());
        }
    }
}

/// The time, and PostgreSQL's version and settings.
async fn look_at_postgres(embedded: &Embedded) -> Result<(String, BTreeMap<String, String>), Failure> {
    const NOW: &str = "-- bench::now
        SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')";
    let mut sql = embedded.connect_options().connect().await?;
    let began = sqlx::query_scalar(NOW).fetch_one(&mut sql).await?;
    let mut found = BTreeMap::new();
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut sql).await?;
    found.insert("version".to_owned(), format!("PostgreSQL {version}"));
    for setting in TELLING {
        let value = sqlx::query_scalar(AssertSqlSafe(format!("SHOW {setting}"))).fetch_one(&mut sql).await?;
        found.insert(setting.to_owned(), value);
    }
    Ok((began, found))
}
