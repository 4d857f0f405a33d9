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
//! answered, if memory grows by 64 MiB, or if a file descriptor is left open afterwards.

mod floods;
mod honest;
mod server;

#[path = "../../../tests/it/attacks/arsenal.rs"]
mod arsenal;
#[path = "../../../tests/it/support/http2_frames.rs"]
mod http2_frames;

use std::{net::SocketAddr, process::Stdio, time::Duration};

use arsenal::{Attack, Pace, Target};
use floods::{Addresses, Flood};
use honest::Waits;
use server::{Attacked, Security, Site};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{Failure, machine};

/// The commands that are about attacks.
#[derive(Debug, clap::Subcommand)]
pub enum Attacks {
    /// Measure how long honest callers wait while the server is attacked
    Attacks {
        /// Only these, such as RapidReset or VerifyEvent
        #[arg(value_name = "ATTACK")]
        wanted: Vec<String>,
    },
    /// Attack a server until killed
    #[command(hide = true)]
    Attack { attack: String, address: SocketAddr, metrics: SocketAddr },
}

/// How much longer honest callers may wait.
const MAX_RATIO: f64 = 2.0;
/// What memory may grow by.
const MAX_GROWTH: u64 = 64 << 20;
const ROUNDS: usize = 3;
const MEASURED: Duration = Duration::from_secs(2);
/// How long a server may take to close what an attacker has left.
const CLOSING: Duration = Duration::from_secs(15);
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

/// An attack of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// On the protocol.
    Wire(Attack),
    /// By valid calls, or with more knowledge of the server.
    Flood(Flood),
}

impl Kind {
    fn all() -> impl Iterator<Item = Self> {
        Attack::ALL.into_iter().map(Self::Wire).chain(Flood::ALL.into_iter().map(Self::Flood))
    }

    fn name(self) -> String {
        match self {
            Self::Wire(attack) => format!("{attack:?}"),
            Self::Flood(flood) => format!("{flood:?}"),
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Wire(attack) => attack.about(),
            Self::Flood(flood) => flood.about(),
        }
    }

    /// Steps a second.
    const fn rate(self) -> u32 {
        match self {
            Self::Wire(attack) => rate(attack),
            Self::Flood(flood) => flood.rate(),
        }
    }

    const fn security(self) -> Security {
        match self {
            Self::Wire(Attack::SlowHandshakes) => Security::Tls,
            Self::Flood(Flood::UnknownSessions) => Security::Sessions,
            _ => Security::Nothing,
        }
    }

    /// Attacks until killed.
    async fn run(self, at: Addresses) -> Result<(), Failure> {
        match self {
            Self::Wire(attack) => {
                let target = Target { address: at.calls, event_id: EVENT.into() };
                let pace = Pace::new(u32::MAX, Duration::from_secs(1) / rate(attack));
                drop(attack.run(&target, pace).await);
                Ok(())
            }
            Self::Flood(flood) => flood.run(at).await,
        }
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
            Self::Attack { attack, address, metrics } => {
                let attack = Kind::all().find(|known| known.name() == attack).ok_or("no such attack")?;
                attack.run(Addresses { calls: address, metrics }).await
            }
        }
    }
}

async fn measure_all(wanted: &[String]) -> Result<(), Failure> {
    let is_wanted = |attack: &Kind| wanted.is_empty() || wanted.contains(&attack.name());
    let (empty, full) = (Site::new()?, Site::new()?);
    let attacks: Vec<_> = Kind::all().filter(is_wanted).collect();
    let has_floods = attacks.iter().any(|attack| matches!(attack, Kind::Flood(_)));
    for (site, is_filled) in [(&empty, false), (&full, has_floods)] {
        let server = site.start(Security::Nothing).await?;
        server.create_events().await?;
        if is_filled {
            println!("filling the tables for the floods of valid calls");
            floods::fill(site).await?;
        }
        server.server.stop().await?;
    }
    println!("{ROUNDS} rounds of {MEASURED:?} quiet and {MEASURED:?} under attack, {} calls a second", honest::RATE);
    println!(
        "{:18} {:>9} {:>9} {:>6} {:>8} {:>4}  what the attacker does",
        "attack", "quiet p99", "p99", "ratio", "memory", "left"
    );
    let mut bad = Vec::new();
    for attack in attacks {
        let site = if matches!(attack, Kind::Flood(_)) { &full } else { &empty };
        let outcome = measure(attack, site).await?;
        println!("{}", outcome.line(attack));
        if outcome.is_beyond_the_bounds() {
            bad.push(attack.name());
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(format!("beyond the bounds: {}", bad.join(", ")).into()) }
}

/// What an attack has done.
struct Outcome {
    quiet: Duration,
    attacked: Duration,
    growth: u64,
    /// File descriptors that are open afterwards and were not before.
    left: usize,
}

impl Outcome {
    fn ratio(&self) -> f64 {
        self.attacked.as_secs_f64() / self.quiet.as_secs_f64()
    }

    fn is_beyond_the_bounds(&self) -> bool {
        self.ratio() > MAX_RATIO || self.growth >= MAX_GROWTH || self.left > 0
    }

    fn line(&self, attack: Kind) -> String {
        let millis = |wait: Duration| format!("{:.2} ms", wait.as_secs_f64() * 1000.0);
        format!(
            "{:18} {:>9} {:>9} {:>6.2} {:>4} MiB {:>4}  {} times a second: {}",
            attack.name(),
            millis(self.quiet),
            millis(self.attacked),
            self.ratio(),
            self.growth >> 20,
            self.left,
            attack.rate(),
            attack.about(),
        )
    }
}

async fn measure(attack: Kind, site: &Site) -> Result<Outcome, Failure> {
    let attacked = site.start(attack.security()).await?;
    let process = attacked.server.process();
    let honest = honest::Callers::connect(&attacked).await?;
    honest.call(MEASURED / 2).await?;
    let before = machine::memory(process, "VmRSS").ok_or("this system does not tell how much memory is used")?;
    let descriptors = machine::descriptors(process).ok_or("this system does not tell which files are open")?;
    machine::reset_peak_memory(process);
    let (mut quiet, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(honest.call(MEASURED).await?);
        let mut attacker = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["attack", &attack.name(), &attacked.server.address.to_string(), &attacked.metrics.to_string()])
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
    let left = descriptors_left(&attacked, descriptors).await;
    attacked.server.stop().await?;
    Ok(Outcome { quiet: median(&quiet), attacked: median(&waits), growth, left })
}

/// How many more file descriptors are open than before, once the server had time to close them.
async fn descriptors_left(attacked: &Attacked, before: usize) -> usize {
    let end = Instant::now() + CLOSING;
    loop {
        let open = machine::descriptors(attacked.server.process()).unwrap_or(usize::MAX);
        if open <= before || Instant::now() >= end {
            return open.saturating_sub(before);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The median of the 99th percentiles.
fn median(waits: &[Waits]) -> Duration {
    let mut all: Vec<_> = waits.iter().map(Waits::p99).collect();
    all.sort_unstable();
    all[all.len() / 2]
}
