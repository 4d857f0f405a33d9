//! `make attacks`: how long honest callers wait while the server is attacked, against how long they wait
//! otherwise, and what the server's memory grows by.
//!
//! The real server in a release build; honest callers who come at a fixed rate, whether or not those before
//! them have been answered; and an attacker in a process of its own with the lowest priority: what is asked is
//! what the *server* makes of it, and an attacker elsewhere would not take its processor time. For the same
//! reason attacks have rates, of some megabytes or some ten thousand frames a second. Each attack is measured
//! several times, each time beside a quiet measurement, and the medians are compared.
//!
//! It fails if honest callers wait for more than twice as long (99th percentile), if one of them is not
//! answered, or if memory grows by 64 MiB.

mod honest;
mod server;

#[path = "../../tests/it/attacks/arsenal.rs"]
mod arsenal;
#[path = "../../tests/it/support/http2_frames.rs"]
mod http2_frames;

use std::{
    error::Error,
    process::{ExitCode, Stdio},
    time::Duration,
};

use arsenal::{Attack, Pace, Target};
use honest::Waits;
use server::Server;
use tokio::process::Command;

type Failure = Box<dyn Error + Send + Sync>;

/// How much longer honest callers may wait.
const MAX_RATIO: f64 = 2.0;
/// What memory may grow by.
const MAX_GROWTH: u64 = 64 << 20;
const ROUNDS: usize = 3;
const MEASURED: Duration = Duration::from_secs(2);
/// The event that is reserved at, and watched.
const EVENT: &str = "concert";

/// Steps a second of each attack.
const fn rate(attack: Attack) -> u32 {
    match attack {
        Attack::ContinuationFlood => 200,
        Attack::HeaderBomb => 100,
        Attack::RapidReset | Attack::Pings | Attack::Settings => 50,
        Attack::AbandonedCalls | Attack::EmptyFrames => 25,
        Attack::StreamFlood
        | Attack::SlowBodies
        | Attack::CompressionBomb
        | Attack::HealthWatches
        | Attack::IdleReflection
        | Attack::SlowHandshakes => 20,
        Attack::SilentConnections
        | Attack::SilentHttp2
        | Attack::Churn
        | Attack::LargeMessages
        | Attack::UnreadWatches => 10,
        Attack::UnreadAnswers | Attack::TrickledAnswers => 5,
    }
}

fn main() -> ExitCode {
    // Cargo adds options of its own harness.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let done = match words.as_slice() {
        [word, attack, address] if word == "attack" => runtime.block_on(attack_it(attack, address)),
        wanted => runtime.block_on(measure_all(wanted)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attacks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn name(attack: Attack) -> String {
    format!("{attack:?}")
}

/// The attacker's process.
async fn attack_it(attack: &str, address: &str) -> Result<(), Failure> {
    let attack = Attack::ALL.into_iter().find(|known| name(*known) == attack).ok_or("no such attack")?;
    let target = Target { address: address.parse()?, event_id: EVENT.into() };
    let pace = Pace::new(u32::MAX, Duration::from_secs(1) / rate(attack));
    drop(attack.run(&target, pace).await);
    Ok(())
}

async fn measure_all(wanted: &[String]) -> Result<(), Failure> {
    let attacks: Vec<_> = Attack::ALL
        .into_iter()
        .filter(|attack| wanted.is_empty() || wanted.iter().any(|word| *word == name(*attack)))
        .collect();
    println!("{} rounds of {MEASURED:?} quiet and {MEASURED:?} under attack, {} calls a second", ROUNDS, honest::RATE);
    println!("{:18} {:>9} {:>9} {:>6} {:>8}  what the attacker does", "attack", "quiet p99", "p99", "ratio", "memory");
    let mut bad = Vec::new();
    for attack in attacks {
        let result = measure(attack).await?;
        let millis = |wait: Duration| format!("{:.2} ms", wait.as_secs_f64() * 1000.0);
        println!(
            "{:18} {:>9} {:>9} {:>6.2} {:>4} MiB  {} times a second: {}",
            name(attack),
            millis(result.quiet),
            millis(result.attacked),
            result.ratio(),
            result.growth >> 20,
            rate(attack),
            attack.about(),
        );
        if result.ratio() > MAX_RATIO || result.growth >= MAX_GROWTH {
            bad.push(name(attack));
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(format!("beyond the bounds: {}", bad.join(", ")).into()) }
}

/// What an attack has done.
struct Outcome {
    quiet: Duration,
    attacked: Duration,
    growth: u64,
}

impl Outcome {
    fn ratio(&self) -> f64 {
        self.attacked.as_secs_f64() / self.quiet.as_secs_f64()
    }
}

async fn measure(attack: Attack) -> Result<Outcome, Failure> {
    let server = Server::start(attack == Attack::SlowHandshakes).await?;
    let honest = honest::Callers::connect(&server).await?;
    honest.call(MEASURED / 2).await?;
    let before = server.memory("VmRSS")?;
    server.forget_peak();
    let (mut quiet, mut attacked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(honest.call(MEASURED).await?);
        let mut attacker = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["attack", &name(attack), &server.address.to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        attacked.push(honest.call(MEASURED).await?);
        if attacker.try_wait()?.is_some() {
            return Err("the attacker has ended by itself".into());
        }
        attacker.kill().await?;
        // A new connection is made as well as before.
        honest::Callers::connect(&server).await?;
    }
    let growth = server.memory("VmHWM")?.saturating_sub(before);
    server.stop().await?;
    Ok(Outcome { quiet: median(&quiet), attacked: median(&attacked), growth })
}

/// The median of the 99th percentiles.
fn median(waits: &[Waits]) -> Duration {
    let mut all: Vec<_> = waits.iter().map(Waits::p99).collect();
    all.sort_unstable();
    all[all.len() / 2]
}
