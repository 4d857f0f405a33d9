//! `reservd bench`: how fast it is, against what SQL alone does on the same PostgreSQL, and whether the
//! books are right in the end.
//!
//! In reading order: `scenario` is what is measured, `plan` in which order, `run` does it. `stage` is a
//! database with a server in a process of its own; `load` are the callers, who talk through `wire`,
//! arrive by `schedule`, choose events by `pick` and count in `tally`. `peers` is pgbench, `seed` a
//! full table, `guarded` a server with tokens, `verify` the end of every run. `results` are asked by `figures` and shown by `report`.

mod figures;
mod guarded;
mod load;
mod machine;
mod peers;
mod pick;
mod plan;
mod report;
mod results;
mod run;
mod scenario;
mod schedule;
mod seed;
mod stage;
mod tally;
mod verify;
mod watchers;
mod wire;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    figures::figures, machine::Machine, peers::Peers, plan::Plan, report::Report, run::Run, scenario::Scenario,
    seed::Fill,
};
use super::{Failure, Settings};
use crate::{
    embedded::{self, Embedded, EmbeddedOptions},
    rpc::pb,
};

/// Enough for 64 clients of pgbench beside two servers.
const MAX_CONNECTIONS: u32 = 200;
/// How long the cores are watched before anything is measured; a quick run has less time.
const CORES_WATCHED: Duration = Duration::from_secs(4);
/// What of PostgreSQL's settings a reader wants to know.
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

/// The options of `reservd bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// About a minute: fewer numbers of callers, short measurements, one round
    #[arg(long)]
    quick: bool,
    /// Only these scenarios, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    scenario: Vec<Scenario>,
    /// Only these strategies, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = scenario::parse_strategy)]
    strategy: Vec<pb::Strategy>,
    /// Numbers of callers, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    callers: Vec<u32>,
    /// Numbers of clients of pgbench, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=128))]
    clients: Vec<u32>,
    /// Measure without pgbench
    #[arg(long)]
    no_peers: bool,
    /// How long each measurement is, such as 5s
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How often everything is measured
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How many events there are besides the hot one
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: Option<u32>,
    /// Compare an empty table with one of so many reservations. Takes minutes and some GB; with
    /// --data-dir it is kept for the next run
    #[arg(long, num_args = 0..=1, default_missing_value = "10000000", value_name = "RESERVATIONS",
          value_parser = clap::value_parser!(u64).range(10..=1_000_000_000))]
    filled: Option<u64>,
    /// Compare a server that asks callers who they are, by tokens, with one that does not
    #[arg(long)]
    authentication: bool,
    /// Send a request_id with each call
    #[arg(long)]
    request_ids: bool,
    /// Leave checkpoints to PostgreSQL. Otherwise there is one before each measurement: the same start
    /// for all, and the first touch of each page after it costs the log a copy of the page, which
    /// weighs most on a full table
    #[arg(long)]
    no_checkpoints: bool,
    /// Where report.html and report.json go
    #[arg(long, default_value = "bench-report", value_name = "FOLDER")]
    out: PathBuf,
}

impl Bench {
    /// Runs it. The settings are the server's; its database is always PostgreSQL of our own.
    pub(super) async fn run(self, settings: &Settings) -> Result<(), Failure> {
        // Before anything is started: an interruption must not leave anything behind.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let config = settings.load()?;
        let out = std::path::absolute(&self.out)?;
        std::fs::create_dir_all(&out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
        let folder = DataFolder::new(settings.data_dir.as_deref())?;
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let options = EmbeddedOptions {
            bin_dir: given(&config.embedded.bin_dir).map(PathBuf::from),
            os_user: given(&config.embedded.os_user),
            max_connections: MAX_CONNECTIONS,
            ..EmbeddedOptions::durable(&folder.path)
        };
        let embedded = Embedded::start(&options).await?;
        let report = tokio::select! {
            report = self.measure(&embedded, &folder, settings) => report,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("interrupted".into()),
        };
        embedded.stop().await?;
        drop(folder);

        let report = report?;
        report.print();
        let [json, html] = report.write(&out)?;
        println!("{}\n{}", html.display(), json.display());
        if report.verified.problems.is_empty() { Ok(()) } else { Err("the books are wrong".into()) }
    }

    async fn measure(&self, embedded: &Embedded, folder: &DataFolder, settings: &Settings) -> Result<Report, Failure> {
        if !embedded.is_owner() {
            return Err(format!("{} is in use by another reservd", folder.path.display()).into());
        }
        let plan = self.plan();
        let machine = Machine::look(&folder.path, if self.quick { CORES_WATCHED / 20 } else { CORES_WATCHED });
        let peers = match plan.clients.is_empty() {
            true => None,
            false => Some(Peers::new(embedded, &folder.path, plan.events)?),
        };
        let (began, postgres) = look_at_postgres(embedded).await?;
        let (results, verified) =
            Run::new(embedded, &plan, &settings.arguments(), peers).carry_out(&folder.path.join("dev-keys")).await?;
        Ok(Report {
            began,
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            quick: self.quick,
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
            settings: settings.load()?.to_toml(),
            figures: figures(&results),
            verified,
            results,
        })
    }

    fn plan(&self) -> Plan {
        fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
            if given.is_empty() { default.to_vec() } else { given.to_vec() }
        }
        let millis = Duration::from_millis;
        let quick = self.quick;
        let duration = self.duration.unwrap_or(if quick { millis(1000) } else { millis(5000) });
        let callers: &[u32] = if quick { &[1, 64, 512] } else { &[1, 8, 64, 256, 512] };
        let clients: &[u32] = if quick { &[1, 16] } else { &[1, 4, 8, 16, 32, 64] };
        let plan = Plan {
            scenarios: or(&self.scenario, &plan::default_scenarios(quick)),
            strategies: or(&self.strategy, &scenario::strategies()),
            callers: or(&self.callers, callers),
            clients: if self.no_peers { Vec::new() } else { or(&self.clients, clients) },
            rounds: self.rounds.unwrap_or(if quick { 1 } else { 3 }),
            warm_up: (duration / 2).min(millis(3000)),
            duration,
            overload_duration: if quick { duration } else { duration.max(millis(60_000)) },
            events: self.events.unwrap_or(10_000),
            filled: self.filled.map(|reservations| Fill { reservations }),
            authentication: self.authentication,
            request_ids: self.request_ids,
            checkpoints: !self.no_checkpoints,
        };
        plan.complete()
    }
}

impl Settings {
    /// What a server is started with to have the same settings. Its database and data are not among
    /// them: a benchmark never touches those of a service.
    fn arguments(&self) -> Vec<String> {
        let config = self.config.iter().flat_map(|file| ["--config".to_owned(), file.display().to_string()]);
        let set = self.set.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
        config.chain(set).collect()
    }
}

/// The folder of the database: given and kept, or our own and removed.
struct DataFolder {
    path: PathBuf,
    ours: bool,
}

impl DataFolder {
    fn new(given: Option<&str>) -> Result<Self, Failure> {
        if let Some(given) = given {
            return Ok(Self { path: Path::new(given).to_owned(), ours: false });
        }
        let name = format!("reservd-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = embedded::temporary_data_parent().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self { path, ours: true })
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("reservd: {} could not be removed: {error}", self.path.display());
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
