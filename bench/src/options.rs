//! The command line, and the plan that it makes.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    Failure, pb,
    plan::{self, Plan},
    program::Program,
    scenario::{self, Scenario},
    seed::Fill,
};

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct Options {
    /// About a minute: fewer numbers of callers, short measurements, one round
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    scenario: Vec<Scenario>,
    /// Only these strategies, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = scenario::parse_strategy)]
    strategy: Vec<pb::ExecutionStrategy>,
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
    /// Compare a server that authenticates its callers, by tokens, with one that does not
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
    /// Judge this project's own targets too
    #[arg(long)]
    pub targets: bool,
    /// The reservd to measure, if not the one beside this program
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// Another reservd, such as an older build, to compare with: both serve, each on a database of its
    /// own, and every measurement is made of one right after the other. Without pgbench
    #[arg(long, value_name = "PROGRAM")]
    compare: Option<PathBuf>,
    /// The servers' file of settings
    #[arg(long, value_name = "FILE", env = "RESERVD_CONFIG")]
    config: Option<PathBuf>,
    /// A setting of the servers, such as database.max_connections=20; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The folder of the database, which is kept; otherwise one that goes with the run
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Where report.html, report.json and the plots go
    #[arg(long, default_value = "bench-report", value_name = "FOLDER")]
    pub out: PathBuf,
}

impl Options {
    /// The server to measure.
    pub fn server(&self) -> Result<Program, Failure> {
        let path = self.server.clone().map_or_else(Program::beside, Ok)?;
        Program::new(&path, self.settings())
    }

    /// The server to compare it with.
    pub fn compared(&self) -> Result<Option<Program>, Failure> {
        self.compare.as_ref().map(|path| Program::new(path, self.settings())).transpose()
    }

    /// What servers are started with. The database and its folder are not among these: a benchmark
    /// never touches those of a service.
    fn settings(&self) -> Vec<String> {
        let config = self.config.iter().flat_map(|file| ["--config".to_owned(), file.display().to_string()]);
        let set = self.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]);
        config.chain(set).collect()
    }

    /// What to measure, and how.
    pub fn plan(&self) -> Plan {
        fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
            if given.is_empty() { default.to_vec() } else { given.to_vec() }
        }
        let millis = Duration::from_millis;
        let (quick, compare) = (self.quick, self.compare.is_some());
        let duration = self.duration.unwrap_or(if quick { millis(1000) } else { millis(5000) });
        let callers: &[u32] = if quick || compare { &[1, 64, 512] } else { &[1, 8, 64, 256, 512] };
        let clients: &[u32] = if quick { &[1, 16] } else { &[1, 4, 8, 16, 32, 64] };
        let scenarios = if compare { plan::COMPARED.to_vec() } else { plan::default_scenarios(quick) };
        let plan = Plan {
            scenarios: or(&self.scenario, &scenarios),
            strategies: or(&self.strategy, &scenario::strategies()),
            callers: or(&self.callers, callers),
            clients: if self.no_peers || compare { Vec::new() } else { or(&self.clients, clients) },
            compare,
            rounds: self.rounds.unwrap_or(match (quick, compare) {
                (true, _) => 1,
                (false, true) => 6,
                (false, false) => 3,
            }),
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
