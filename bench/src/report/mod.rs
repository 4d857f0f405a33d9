//! What was found: tables on the terminal, JSON for machines, one HTML file for people, and its plots.

mod figures;
mod html;
mod plots;
mod tables;
mod text;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;

use self::{figures::Plot, tables::Table};
use crate::{
    Failure,
    comparison::Compared,
    machine::{Machine, Pauses},
    results::{Measured, Results},
    scenario::{Scenario, Who},
    tally::{PERCENTILES, Sample, Spread, millis_at},
    targets::Target,
    verify::Verified,
};

/// A part of the time for which cores may stand still without a warning. So much of what is measured is late for
/// that alone, and whatever waits behind it.
const NOTED_PAUSES: f64 = 0.001;

/// A run, and what it found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When it began, by PostgreSQL's clock.
    pub began: String,
    /// reservd's name and version.
    pub version: String,
    /// The program that was measured.
    pub server: String,
    /// The program that it was compared with.
    pub compared_with: Option<String>,
    /// Whether it was built for speed; if not, its numbers mean nothing.
    pub optimised: bool,
    /// Whether it was a quick run, too short for its numbers to be relied on.
    pub quick: bool,
    /// How it was measured.
    pub method: Method,
    /// Where.
    pub machine: Machine,
    /// PostgreSQL's version and the settings that matter.
    pub postgres: BTreeMap<String, String>,
    /// The server's settings.
    pub settings: String,
    /// This build against the other.
    pub comparison: Vec<Compared>,
    /// The project's targets, where they were asked for.
    pub targets: Option<Vec<Target>>,
    /// The result of the audit.
    pub verified: Verified,
    /// Everything that was measured.
    #[serde(serialize_with = "measurements")]
    pub results: Results,
}

/// How it was measured.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Method {
    pub rounds: u32,
    pub warm_up_seconds: f64,
    pub seconds: f64,
    pub events: u32,
    pub filled_reservations: Option<u64>,
    pub request_ids: bool,
    pub checkpoints: bool,
}

/// One line of `results` in the JSON.
#[derive(Serialize)]
struct Measurement<'a> {
    scenario: Scenario,
    who: Who,
    callers: u32,
    per_second: Option<Spread>,
    /// Of all rounds together: percentile and milliseconds.
    latency_percentiles_ms: Vec<(f64, f64)>,
    mean_batch: Option<f64>,
    /// Successes by the size of their batch.
    batches: &'a BTreeMap<u32, u64>,
    rounds: &'a [Sample],
}

fn measurements<S: serde::Serializer>(results: &Results, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(results.all().iter().map(|measured| {
        let Measured { step, samples, latency, batches } = measured;
        let percentiles = PERCENTILES.iter().filter(|_| !latency.is_empty());
        Measurement {
            scenario: step.scenario,
            who: step.who,
            callers: step.callers,
            per_second: measured.rate(),
            latency_percentiles_ms: percentiles.map(|at| (*at, millis_at(latency, *at))).collect(),
            mean_batch: measured.mean_batch(),
            batches,
            rounds: samples,
        }
    }))
}

impl Report {
    /// Prints it for the person at the terminal.
    pub fn print(&self) {
        let tables = [self.scenario_tables(), self.summaries()].into_iter().flatten();
        for table in tables.chain(self.targets_table()).chain(self.comparison_table()) {
            println!("{}", table.drawn());
        }
        self.warnings().iter().for_each(|warning| println!("NOTE: {warning}"));
        self.verified.problems.iter().for_each(|problem| println!("PROBLEM: {problem}"));
        println!("{}", self.audit());
    }

    /// Writes `report.json`, `report.html` and its plots into a folder, and returns where the two are.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], Failure> {
        let write = |name: &str, content: &str| -> Result<PathBuf, Failure> {
            let path = folder.join(name);
            std::fs::write(&path, content).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            Ok(path)
        };
        let plots = figures::plots(&self.results)?;
        for Plot { name, svg, .. } in &plots {
            write(&format!("{name}.svg"), svg)?;
        }
        let json = serde_json::to_string_pretty(self)?;
        Ok([write("report.json", &(json + "\n"))?, write("report.html", &html::render(self, &plots).into_string())?])
    }

    /// What a user asks first, of each scenario that SQL alone can do too.
    fn summaries(&self) -> Vec<Table> {
        let scenarios = self.results.scenarios().into_iter().filter(|scenario| scenario.has_peers());
        scenarios.map(|scenario| tables::summary(self, scenario)).collect()
    }

    fn scenario_tables(&self) -> Vec<Table> {
        self.results.scenarios().into_iter().map(|scenario| tables::measured(self, scenario)).collect()
    }

    fn comparison_table(&self) -> Option<Table> {
        tables::comparison(self)
    }

    fn targets_table(&self) -> Option<Table> {
        tables::targets(self)
    }

    /// What a reader must know before believing a number.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.optimised {
            warnings.push("This is a debug build: its numbers mean nothing.".into());
        }
        if self.quick {
            warnings.push("A quick run: too short for its numbers to be relied on.".into());
        }
        if self.machine.data_in_memory {
            warnings.push("The database was in memory (tmpfs): no commit ever waited for a disk.".into());
        }
        if self.machine.load_before.parse::<f64>().is_ok_and(|load| load > 0.5) {
            warnings.push(format!("The machine was busy before the run: load {}.", self.machine.load_before));
        }
        let Pauses { longest_ms, share } = self.machine.pauses;
        if share > NOTED_PAUSES {
            warnings.push(format!(
                "This machine's cores stand still by themselves, for {longest_ms:.1} ms at the longest, {:.1} % of \
                 the time: of high percentiles that is a part.",
                share * 100.0,
            ));
        }
        if !self.verified.problems.is_empty() {
            warnings.push("The counters were wrong: this is a failed run.".into());
        }
        warnings
    }

    /// What was checked in the end.
    fn audit(&self) -> String {
        let Verified { events, acknowledged, unknown, changes, problems } = &self.verified;
        let verdict = if problems.is_empty() { "the counters are right" } else { "THE COUNTERS ARE WRONG" };
        let unknown = if *unknown > 0 { format!(", {unknown} calls had an unknown outcome") } else { String::new() };
        format!(
            "{verdict}: VerifyEvent on {} events; callers were answered {} successes{unknown}, {} changes are recorded",
            text::number(*events as f64),
            text::number(*acknowledged as f64),
            text::number(*changes as f64),
        )
    }
}
