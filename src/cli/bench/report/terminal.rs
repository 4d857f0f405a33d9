//! The report on a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};

use super::{Report, text};
use crate::cli::bench::{
    figures::Figure,
    results::Measured,
    scenario::{Peer, Scenario, Who},
    tally::{Latency, Sample, Spread},
};

/// Columns of text; wider than some terminals, but numbers that are cut are of no use.
const WIDTH: u16 = 150;

/// Everything that a terminal is told.
pub fn render(report: &Report) -> String {
    let mut page = String::new();
    for scenario in report.results.scenarios() {
        let _ = writeln!(page, "\n{}\n{}", scenario.title(), scenario_table(report, scenario));
    }
    let _ = writeln!(page, "\nThe figures to reach\n{}", figures_table(&report.figures));
    for warning in report.warnings() {
        let _ = writeln!(page, "NOTE: {warning}");
    }
    for problem in &report.verified.problems {
        let _ = writeln!(page, "PROBLEM: {problem}");
    }
    let _ = write!(page, "{}", report.books());
    page
}

fn table(header: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header.to_vec());
    for column in table.column_iter_mut().skip(numbers_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The columns of a scenario's table.
pub const COLUMNS: [&str; 11] = [
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
    "not successes",
];

fn scenario_table(report: &Report, scenario: Scenario) -> Table {
    let mut table = table(&COLUMNS, 1);
    for row in rows(report, scenario) {
        table.add_row(row);
    }
    table
}

/// What the tables say of each measurement of a scenario.
pub fn rows(report: &Report, scenario: Scenario) -> Vec<Vec<String>> {
    let plain = report.results.best(scenario, Who::Peer(Peer::Plain)).and_then(Measured::rate);
    let contenders = report.results.contenders(scenario);
    let measured = contenders.into_iter().flat_map(|who| report.results.by_callers(scenario, who));
    measured.map(|measured| row(measured, plain)).collect()
}

fn row(measured: &Measured, plain: Option<Spread>) -> Vec<String> {
    let rate = measured.rate();
    let against = rate.zip(plain).map(|(rate, plain)| format!("{}x", text::number(rate.median / plain.median)));
    let millis = |number: fn(&Latency) -> f64| {
        let spread = measured.spread(|sample| sample.latency_ms.as_ref().map(number));
        spread.map_or("-".into(), |spread| text::number(spread.median))
    };
    let median = |number: &dyn Fn(&Sample) -> Option<f64>| measured.spread(number).map(|spread| spread.median);
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
        measured.step.who.name().into(),
        measured.step.callers.to_string(),
        text::spread(rate) + &offered,
        against.unwrap_or("-".into()),
        millis(|latency| latency.p50),
        millis(|latency| latency.p99),
        millis(|latency| latency.p999),
        measured.mean_batch().map_or("-".into(), text::number),
        median(&|sample| sample.attempts).map_or("-".into(), text::number),
        if cores.is_empty() { "-".into() } else { cores },
        failures.collect::<Vec<_>>().join(", "),
    ]
}

fn figures_table(figures: &[Figure]) -> Table {
    let mut table = table(&["figure", "at least", "aim", "measured (rounds)", "verdict"], 1);
    for figure in figures {
        table.add_row(figure_row(figure));
    }
    table
}

/// What the tables say of a figure.
pub fn figure_row(figure: &Figure) -> [String; 5] {
    let bound = |value: f64| {
        let sign = if figure.smaller_is_better { "≤ " } else { "≥ " };
        format!("{sign}{value}{}", unit(figure))
    };
    let measured = figure.measured.map_or("-".into(), |spread| text::spread(Some(spread)) + &unit(figure));
    let name = if figure.from.is_empty() { figure.name.into() } else { format!("{}: {}", figure.name, figure.from) };
    [name, bound(figure.at_least), bound(figure.aim), measured, figure.verdict.text().into()]
}

fn unit(figure: &Figure) -> String {
    if figure.unit == "x" { "x".into() } else { format!(" {}", figure.unit) }
}
