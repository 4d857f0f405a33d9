//! `reservd-bench attacks`: how long honest callers wait while the server is attacked, against how long they wait
//! otherwise, and what the server's memory grows by.
//!
//! Honest callers come to the real server at a fixed rate, whether or not earlier calls were answered. The attacker
//! is a process of its own with the lowest priority: the question is what the *server* makes of the attack, and an
//! attacker elsewhere would not take its processor time. For the same reason attacks have rates, of some megabytes
//! or some ten thousand frames a second. Each attack is measured several times, each time beside a quiet
//! measurement, and the medians are compared.
//!
//! It fails if honest callers wait for more than twice as long (99th percentile), if one of them is not
//! answered, or if memory grows by 64 MiB.

mod honest;
mod server;

#[path = "../../../tests/it/attacks/arsenal.rs"]
mod arsenal;
#[path = "../../../tests/it/support/http2_frames.rs"]
mod http2_frames;

use std::{net::SocketAddr, process::Stdio, time::Duration};

use arsenal::{Attack, Pace, Target};
use honest::Waits;
use server::Attacked;
use tokio::process::Command;

use crate::{Failure, machine};

/// The commands that are about attacks.
#[derive(Debug, clap::Subcommand)]
pub enum Attacks {
    /// Measure how long honest callers wait while the server is attacked
    Attacks {
        /// Only these, such as RapidReset
        #[arg(value_name = "ATTACK")]
        wanted: Vec<String>,
    },
    /// Attack a server until killed
    #[command(hide = true)]
    Attack { attack: String, address: SocketAddr },
}

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

impl Attacks {
    /// Measures, or attacks.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            // Dropped, what was started ends.
            Self::Attacks { wanted } => tokio::select! {
                done = measure_all(&wanted) => done,
                _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            },
            Self::Attack { attack, address } => attack_it(&attack, address).await,
        }
    }
}

fn name(attack: Attack) -> String {
    format!("{attack:?}")
}

/// The attacker's process.
async fn attack_it(attack: &str, address: SocketAddr) -> Result<(), Failure> {
    let attack = Attack::ALL.into_iter().find(|known| name(*known) == attack).ok_or("no such attack")?;
    let target = Target { address, event_id: EVENT.into() };
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
    let attacked = Attacked::start(attack == Attack::SlowHandshakes).await?;
    let (process, address) = (attacked.server.process(), attacked.server.address);
    let honest = honest::Callers::connect(&attacked).await?;
    honest.call(MEASURED / 2).await?;
    let before = machine::memory(process, "VmRSS").ok_or("this system does not tell how much memory is used")?;
    machine::reset_peak_memory(process);
    let (mut quiet, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(honest.call(MEASURED).await?);
        let mut attacker = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["attack", &name(attack), &address.to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        waits.push(honest.call(MEASURED).await?);
        if attacker.try_wait()?.is_some() {
            return Err("the attacker has ended by itself".into());
        }
        attacker.kill().await?;
        // A new connection is made as well as before.
        honest::Callers::connect(&attacked).await?;
    }
    let growth = machine::memory(process, "VmHWM").unwrap_or(u64::MAX).saturating_sub(before);
    attacked.stop().await?;
    Ok(Outcome { quiet: median(&quiet), attacked: median(&waits), growth })
}

/// The median of the 99th percentiles.
fn median(waits: &[Waits]) -> Duration {
    let mut all: Vec<_> = waits.iter().map(Waits::p99).collect();
    all.sort_unstable();
    all[all.len() / 2]
}
