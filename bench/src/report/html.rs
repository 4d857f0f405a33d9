//! The report as one HTML file: no script, nothing to load, readable without this program.

use clap::ValueEnum;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, figures::Plot, tables::Table, text};
use crate::{
    machine::Pauses,
    scenario::{Peer, Scenario, Who},
};

/// The whole page: what a user asks first, the comparison of two builds where there is one, then the rest.
pub fn render(report: &Report, plots: &[Plot]) -> Markup {
    let right = report.verified.problems.is_empty();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "reservd: how fast it is" }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                h1 { "reservd: how fast it is" }
                p.note {
                    (report.version) " on " (report.machine.processor) ", " (report.machine.cores) " cores, "
                    (report.postgres.get("version").map_or("PostgreSQL", String::as_str)) ". " (report.began) "."
                }
                @for warning in report.warnings() { p.warning { (warning) } }
                p class=(if right { "good" } else { "warning" }) { (report.audit()) }
                @for problem in &report.verified.problems { p.warning { (problem) } }
                @if let Some(comparison) = report.comparison_table() { (section("Against another build", "", &[comparison])) }
                (section("Against SQL alone",
                    "All durable: a success is on disk before it is answered. pgbench runs bare SQL on the same PostgreSQL \
                     and tables, without gRPC, rules, idempotency or history; reservd does all of these.",
                    &report.summaries()))
                @for plot in plots { figure { figcaption { (plot.note) } (PreEscaped(&plot.svg)) } }
                @if let Some(targets) = report.targets_table() {
                    (section("Targets", "The median over the rounds, in brackets the lowest and the highest.", &[targets]))
                }
                (method(report))
                h2 { "All numbers" }
                p.note { "report.json beside this file has them for machines, round by round." }
                @for table in report.scenario_tables() { details { summary { (table.title) } (cells(&table)) } }
            }
        }
    }
}

fn section(title: &str, note: &str, tables: &[Table]) -> Markup {
    html! {
        h2 { (title) }
        p.note { (note) }
        @for table in tables { h3 { (table.title) } (cells(table)) }
    }
}

fn cells(table: &Table) -> Markup {
    let class = |column| if column < table.names { "name" } else { "" };
    html! {
        div.scroll {
            table {
                tr { @for (column, name) in table.header.iter().enumerate() { th class=(class(column)) { (name) } } }
                @for row in &table.rows {
                    tr { @for (column, cell) in row.iter().enumerate() { td class=(class(column)) { (cell) } } }
                }
            }
        }
    }
}

fn method(report: &Report) -> Markup {
    let (method, machine) = (&report.method, &report.machine);
    let Pauses { longest_ms, share } = machine.pauses;
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let sync = |millis: f64| format!("{millis:.2} ms for a small write to be safe (fdatasync, median)");
    let filled = |count: u64| format!("{} reservations in a tenth as many events", text::number(count as f64));
    let mut terms = vec![
        ("server", report.server.clone()),
        ("rounds", format!("{}, every second one backwards", method.rounds)),
        ("each measurement", format!("{} s after {} s of warm-up", method.seconds, method.warm_up_seconds)),
        ("events", text::number(f64::from(method.events))),
        ("the full table", method.filled_reservations.map_or("not measured".into(), filled)),
        ("request_id with each call", if method.request_ids { "yes" } else { "no" }.into()),
        ("checkpoints", if method.checkpoints { "before each measurement" } else { "left to PostgreSQL" }.into()),
        ("processor", format!("{}, {} cores", machine.processor, machine.cores)),
        ("memory", machine.memory_bytes.map_or("unknown".into(), gib)),
        ("kernel", machine.kernel.clone()),
        ("disk", machine.disk_sync_ms.map_or("unknown".into(), sync)),
        ("cores stood still by themselves", {
            format!("for {longest_ms:.1} ms at the longest, {:.2} % of the time, before the run", share * 100.0)
        }),
    ];
    terms.extend(report.postgres.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let scenarios = report.results.scenarios();
    html! {
        h2 { "How it was measured" }
        (PreEscaped(include_str!("method.html")))
        dl {
            @for (name, value) in terms { dt { (name) } dd { (value) } }
            @for scenario in Scenario::value_variants().iter().filter(|scenario| !scenarios.contains(scenario)) {
                dt { (scenario.name()) } dd { "not measured in this run" }
            }
        }
        details { summary { "The server's settings" } pre { (report.settings) } }
        @for peer in Peer::ALL {
            details { summary { (Who::Peer(peer).name()) ": its script" } pre { (peer.script()) } }
        }
    }
}
