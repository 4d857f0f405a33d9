//! The tables of the report, as text: the terminal and the page show the same.

use comfy_table::{CellAlignment, ContentArrangement, presets::UTF8_BORDERS_ONLY};

use super::{Report, text};
use crate::{
    comparison::MEASURES,
    results::Measured,
    scenario::{Peer, Scenario, Who, strategies},
    tally::{Latency, Sample, Spread},
    targets::Target,
};

/// Columns of text; wider than some terminals, but numbers that are cut are of no use.
const WIDTH: u16 = 150;

/// A table: the first columns, as many as `names`, are text, the others numbers.
pub struct Table {
    pub title: String,
    pub names: usize,
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// For a terminal.
    pub fn drawn(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.set_header(&self.header).add_rows(&self.rows);
        for column in table.column_iter_mut().skip(self.names) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("\n{}\n{table}", self.title)
    }
}

/// What a user asks first: throughput and latency of each strategy against SQL alone.
pub fn summary(report: &Report, scenario: Scenario) -> Table {
    let strategies = strategies().into_iter().map(Who::Service);
    // What was not measured is in the list of how it was measured.
    let measured =
        strategies.chain(Peer::ALL.map(Who::Peer)).filter_map(|who| Some((who, report.results.best(scenario, who)?)));
    let rows = measured.map(|(who, best)| summary_row(report, scenario, who, best));
    Table {
        title: format!("{}, each at its best number of callers", scenario.title()),
        names: 1,
        header: vec!["who", "successes a second", "against plain", "at once", "p50 ms", "p99 ms", "alone: p50 ms"],
        rows: rows.collect(),
    }
}

fn summary_row(report: &Report, scenario: Scenario, who: Who, best: &Measured) -> Vec<String> {
    let alone = report.results.at(scenario, who, 1).map_or("-".into(), middle);
    vec![
        who.name(),
        text::spread(best.rate()),
        against_plain(report, best),
        best.step.callers.to_string(),
        middle(best),
        millis(best, |latency| latency.p99),
        alone,
    ]
}

/// The median latency; of pgbench's clients, who wait for each answer, the mean follows from their rate.
fn middle(measured: &Measured) -> String {
    match (measured.step.who, measured.rate()) {
        (Who::Peer(_), Some(rate)) => {
            format!("{} (mean)", text::number(f64::from(measured.step.callers) * 1000.0 / rate.median))
        }
        _ => millis(measured, |latency| latency.p50),
    }
}

fn millis(measured: &Measured, number: fn(&Latency) -> f64) -> String {
    let spread = measured.spread(|sample| sample.latency_ms.as_ref().map(number));
    spread.map_or("-".into(), |spread| text::number(spread.median))
}

fn against_plain(report: &Report, measured: &Measured) -> String {
    let plain = report.results.best(measured.step.scenario, Who::Peer(Peer::Plain)).and_then(Measured::rate);
    let ratio = measured.rate().zip(plain).map(|(rate, plain)| rate.median / plain.median);
    ratio.map_or("-".into(), |ratio| format!("{}x", text::number(ratio)))
}

/// All that was measured in a scenario.
pub fn measured(report: &Report, scenario: Scenario) -> Table {
    let contenders = report.results.contenders(scenario);
    let all = contenders.into_iter().flat_map(|who| report.results.by_callers(scenario, who));
    Table {
        title: scenario.title().into(),
        names: 1,
        header: vec![
            "who",
            "at once",
            "a second (rounds)",
            "against plain",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "batch",
            "tries",
            "cores: server, load, rest",
            "server µs a call",
            "MiB",
            "not successes",
        ],
        rows: all.map(|measured| measured_row(report, measured)).collect(),
    }
}

fn measured_row(report: &Report, measured: &Measured) -> Vec<String> {
    let median = |number: &dyn Fn(&Sample) -> Option<f64>| measured.spread(number).map(|spread| spread.median);
    let number = |number: &dyn Fn(&Sample) -> Option<f64>| median(number).map_or("-".into(), text::number);
    let cores = [
        median(&|sample| Some(sample.cpu?.server)),
        median(&|sample| Some(sample.cpu?.load)),
        median(&|sample| Some(sample.cpu?.postgres_and_rest)),
    ];
    let cores = cores.iter().flatten().map(|cores| format!("{cores:.2}")).collect::<Vec<_>>().join(", ");
    let failures = measured.failures().into_iter().map(|(reason, count)| format!("{reason} {count}"));
    let offered = median(&|sample| sample.offered_per_second);
    let offered = offered.map_or(String::new(), |offered| format!(" of {}", text::number(offered)));
    vec![
        measured.step.who.name(),
        measured.step.callers.to_string(),
        text::spread(measured.rate()) + &offered,
        against_plain(report, measured),
        millis(measured, |latency| latency.p50),
        millis(measured, |latency| latency.p99),
        millis(measured, |latency| latency.p999),
        measured.mean_batch().map_or("-".into(), text::number),
        number(&|sample| sample.attempts),
        if cores.is_empty() { "-".into() } else { cores },
        number(&|sample| sample.server_micros_per_call),
        number(&|sample| sample.server_memory_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20))),
        failures.collect::<Vec<_>>().join(", "),
    ]
}

/// This build against the one before, where there were two.
pub fn comparison(report: &Report) -> Option<Table> {
    let before = report.compared_with.as_ref()?;
    let rows = report.comparison.iter().map(|it| {
        let names = [it.scenario.name(), it.strategy.to_owned(), it.callers.to_string()];
        let ratios = MEASURES.map(|(name, _)| it.ratios[name].map_or("-".into(), times));
        names.into_iter().chain(ratios).collect()
    });
    Some(Table {
        title: format!("{} against {before}: ratios within a round, their median (lowest to highest)", report.server),
        names: 2,
        header: ["scenario", "strategy", "at once"].into_iter().chain(MEASURES.map(|(name, _)| name)).collect(),
        rows: rows.collect(),
    })
}

fn times(Spread { median, min, max }: Spread) -> String {
    format!("{median:.3}x ({min:.3} to {max:.3})")
}

/// The project's own targets, where they were asked for.
pub fn targets(report: &Report) -> Option<Table> {
    let targets = report.targets.as_ref()?;
    Some(Table {
        title: "This project's targets: ratios within a run on one machine".into(),
        names: 1,
        header: vec!["target", "at least", "aim", "measured (rounds)", "verdict"],
        rows: targets.iter().map(target_row).collect(),
    })
}

fn target_row(target: &Target) -> Vec<String> {
    let unit = if target.unit == "x" { "x".into() } else { format!(" {}", target.unit) };
    let bound = |value: f64| {
        let sign = if target.smaller_is_better { "≤ " } else { "≥ " };
        format!("{sign}{value}{unit}")
    };
    let measured = target.measured.map_or("-".into(), |spread| text::spread(Some(spread)) + &unit);
    let name = if target.from.is_empty() { target.name.into() } else { format!("{}: {}", target.name, target.from) };
    vec![name, bound(target.at_least), bound(target.aim), measured, target.verdict.text().into()]
}
