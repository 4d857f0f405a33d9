//! The demonstration: a wave of travellers over imported flights, ending with a table. Exits with an
//! error if a promise was broken. `examples/demo.sh` starts a service for it and imports the flights.

mod wave;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tonic::transport::{Channel, Endpoint};
use wave::{Flight, Plan};

/// One connection carries a few hundred calls at once, so that a wave takes several.
const TRAVELLERS_PER_CONNECTION: usize = 100;
/// Problems that are printed; the table counts them all.
const MAX_PRINTED: usize = 20;

/// Sends a wave of concurrent reservations and prints what came of it.
#[derive(Parser)]
struct Args {
    /// The flights, already imported
    #[arg(long, value_name = "FILE", default_value = "examples/flights.csv")]
    csv: PathBuf,
    /// The service's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
    server: String,
    /// How many users act at once
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=2000))]
    travellers: u16,
    /// How many trips each makes
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(0..=1000))]
    trips: u16,
    /// Repeats the wishes of an earlier wave
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
async fn run(args: Args) -> Result<bool, Box<dyn Error>> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let plan = Plan {
        flights: flights(&args.csv)?,
        travellers: args.travellers.into(),
        trips: args.trips.into(),
        // Another wave on the same flights, even of the same seed, has travellers of its own.
        name: format!("traveller-{:08x}", fastrand::u32(..)),
        seed,
    };
    let mut channels = Vec::new();
    for _ in 0..plan.travellers.div_ceil(TRAVELLERS_PER_CONNECTION) {
        channels.push(connect(&args.server).await?);
    }
    let bar = progress_bar();
    let outcome = wave::run(&plan, &channels, &bar).await.map_err(|status| status.message().to_owned())?;
    bar.finish_and_clear();
    println!("{outcome}");
    let problems = outcome.problems();
    for problem in problems.iter().take(MAX_PRINTED) {
        println!("PROBLEM: {problem}");
    }
    println!("{} travellers, {} trips each, seed {seed}.", plan.travellers, plan.trips);
    Ok(problems.is_empty())
}

fn flights(csv: &PathBuf) -> Result<Vec<Flight>, Box<dyn Error>> {
    let name = csv.display();
    let mut reader = csv::Reader::from_path(csv).map_err(|error| format!("cannot read {name}: {error}"))?;
    let flights = reader.deserialize().collect::<Result<Vec<Flight>, _>>();
    let flights = flights.map_err(|error| format!("{name}: {error}"))?;
    if flights.is_empty() { Err(format!("{name} has no flights").into()) } else { Ok(flights) }
}

async fn connect(server: &str) -> Result<Channel, Box<dyn Error>> {
    let endpoint = Endpoint::from_shared(server.to_owned())?.connect_timeout(Duration::from_secs(3));
    Ok(endpoint.connect().await.map_err(|_| format!("no server answers at {server}"))?)
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} trips and checks, {per_sec}, {eta} to go");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
