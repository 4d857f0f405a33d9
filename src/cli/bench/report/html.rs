//! The report as one HTML file: no script, nothing to load, readable without this program.

use std::fmt::Write as _;

use super::{
    Report,
    scale::Kind,
    svg::{Axis, Bar, Point, Series, bars, lines},
    terminal,
    text::{escaped, number},
};
use crate::cli::bench::{
    figures::Verdict,
    machine::Pauses,
    results::Measured,
    scenario::{Peer, Scenario, Who, champion},
    tally::{PERCENTILES, Sample, Spread, millis_at},
};

/// Told apart also by those who see few colours.
const PEERS: [&str; 2] = ["#7a7f87", "#cc79a7"];
const STRATEGIES: [&str; 4] = ["#d55e00", "#009e73", "#0072b2", "#e69f00"];

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str(
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>reservd bench</title><style>",
    );
    page.push_str(include_str!("style.css"));
    page.push_str("</style></head><body>\n<h1>reservd bench</h1>");
    let _ = write!(
        page,
        "<p class=\"sub\">reservd {} on {}, {} cores, {}. {}.</p>",
        escaped(report.version),
        escaped(&report.machine.processor),
        report.machine.cores,
        escaped(report.postgres.get("version").map_or("PostgreSQL", String::as_str)),
        escaped(&report.began)
    );
    for warning in report.warnings() {
        let _ = write!(page, "<p class=\"warning\">{}</p>", escaped(&warning));
    }
    let class = if report.verified.problems.is_empty() { "good" } else { "warning" };
    let _ = write!(page, "<p class=\"{class}\">{}</p>", escaped(&report.books()));
    for problem in &report.verified.problems {
        let _ = write!(page, "<p class=\"warning\">{}</p>", escaped(problem));
    }
    figures(&mut page, report);
    best_of_each(&mut page, report);
    by_callers(&mut page, report);
    open_loop(&mut page, report);
    batches(&mut page, report);
    method(&mut page, report);
    numbers(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn colour(who: Who) -> &'static str {
    match who {
        Who::Peer(Peer::Plain) => PEERS[0],
        Who::Peer(Peer::Versioned) => PEERS[1],
        Who::Service(strategy) => {
            let place = usize::try_from(i32::from(strategy) - 1).unwrap_or(0);
            STRATEGIES[place % STRATEGIES.len()]
        }
    }
}

fn heading(page: &mut String, title: &str, note: &str) {
    let _ = write!(page, "\n<h2>{}</h2><p class=\"note\">{}</p>", escaped(title), escaped(note));
}

fn figure(page: &mut String, title: &str, plot: &str) {
    let _ = write!(page, "<h3>{}</h3><figure>{plot}</figure>", escaped(title));
}

fn figures(page: &mut String, report: &Report) {
    heading(
        page,
        "The figures to reach",
        "Ratios within this run, on this machine, which ran PostgreSQL, server and load generator together. \
         Each is the median over the rounds, in brackets the lowest and the highest round.",
    );
    page.push_str("<div class=\"scroll\"><table><tr><th>figure<th>at least<th>aim<th>measured<th>verdict</tr>");
    for figure in &report.figures {
        let [name, at_least, aim, measured, verdict] = terminal::figure_row(figure).map(|cell| escaped(&cell));
        let class = match figure.verdict {
            Verdict::Aim => "aim",
            Verdict::Reached => "reached",
            Verdict::Short => "short",
            Verdict::NotMeasured => "not-measured",
        };
        let _ = write!(
            page,
            "<tr><td>{name}<td>{at_least}<td>{aim}<td>{measured}<td><span class=\"verdict {class}\">{verdict}</span></tr>"
        );
    }
    page.push_str("</table></div>");
}

fn best_of_each(page: &mut String, report: &Report) {
    heading(
        page,
        "Reservations a second, each at its best number of callers",
        "All durable: a success is on disk before it is told. pgbench runs bare SQL on the same PostgreSQL and \
         tables, without gRPC, rules, idempotency or history; reservd does all of these.",
    );
    for scenario in report.results.scenarios().into_iter().filter(|scenario| scenario.arrivals().is_none()) {
        let plain = report.results.best(scenario, Who::Peer(Peer::Plain)).and_then(Measured::rate);
        let best = report.results.contenders(scenario).into_iter();
        let best = best.filter_map(|who| report.results.best(scenario, who)).filter_map(|measured| {
            let rate = measured.rate()?.median;
            let times = plain.map_or(String::new(), |plain| format!(" = {}x", number(rate / plain.median)));
            Some(Bar {
                name: measured.step.who.name().into(),
                value: rate,
                colour: colour(measured.step.who),
                label: format!("{}{times} (at {})", number(rate), measured.step.callers),
            })
        });
        let mut best: Vec<_> = best.collect();
        best.sort_by(|a, b| b.value.total_cmp(&a.value));
        figure(page, scenario.title(), &bars(scenario.title(), &best));
    }
}

/// A line for each contender of a scenario, over the number of callers.
fn over_callers(
    report: &Report,
    scenario: Scenario,
    (name, dashed): (&str, bool),
    take: impl Fn(&Sample) -> Option<f64>,
) -> Vec<Series> {
    let contenders = report.results.contenders(scenario).into_iter();
    let series = contenders.map(|who| {
        let points = report.results.by_callers(scenario, who).into_iter().filter_map(|measured| {
            let Spread { median, min, max } = measured.spread(&take)?;
            Some(Point { x: f64::from(measured.step.callers), y: median, ends: (min, max) })
        });
        let name = format!("{}{name}", who.name());
        Series { name, colour: colour(who), dashed: dashed || matches!(who, Who::Peer(_)), points: points.collect() }
    });
    series.filter(|series| !series.points.is_empty()).collect()
}

fn by_callers(page: &mut String, report: &Report) {
    heading(
        page,
        "How it grows with the number of callers",
        "Each caller waits for its answer before it asks again. Bars at the points show how far the rounds were apart. \
         Callers of pgbench are its clients, each with a connection of its own.",
    );
    let callers = Axis { name: "callers at once", kind: Kind::Log };
    for scenario in report.results.scenarios().into_iter().filter(|scenario| scenario.arrivals().is_none()) {
        let rates = over_callers(report, scenario, ("", false), |sample| Some(sample.per_second));
        if rates.iter().all(|series| series.points.len() < 2) {
            continue;
        }
        let rate = Axis { name: "successes a second", kind: Kind::Linear };
        figure(page, &format!("{}: throughput", scenario.title()), &lines(callers, rate, &rates));
        let mut latencies = over_callers(report, scenario, (", p99", false), |sample| Some(sample.latency_ms?.p99));
        latencies.extend(over_callers(report, scenario, (", p50", true), |sample| Some(sample.latency_ms?.p50)));
        let latency = Axis { name: "milliseconds (logarithmic)", kind: Kind::Log };
        figure(page, &format!("{}: latency", scenario.title()), &lines(callers, latency, &latencies));
    }
}

fn open_loop(page: &mut String, report: &Report) {
    let scenarios = report.results.scenarios();
    let scenarios: Vec<_> = scenarios.into_iter().filter(|scenario| scenario.arrivals().is_some()).collect();
    if scenarios.is_empty() {
        return;
    }
    heading(
        page,
        "Latency under a steady stream of arrivals",
        "Arrivals come at a fixed rate, a part of the highest that the same contender has reached before, and do not wait \
         for each other. Latency counts from the moment an arrival was due, so that a stall is charged for everyone who \
         came meanwhile. Each step to the right is ten times as rare.",
    );
    for scenario in scenarios {
        let mut series: Vec<_> =
            report.results.of(scenario).filter(|it| !it.latency.is_empty()).map(percentiles).collect();
        if let Some((base, _)) = scenario.arrivals()
            && let Some(rate) = report.results.at(base, Who::Peer(Peer::Plain), 1).and_then(Measured::rate)
        {
            let y = 1000.0 / rate.median;
            let points = [0.0, 99.99].map(|x| Point { x, y, ends: (y, y) }).to_vec();
            let name = "pgbench, plain transaction, one client: mean".into();
            series.push(Series { name, colour: PEERS[0], dashed: true, points });
        }
        let x = Axis { name: "percentile", kind: Kind::Nines };
        let y = Axis { name: "milliseconds (logarithmic)", kind: Kind::Log };
        figure(page, scenario.title(), &lines(x, y, &series));
    }
}

fn percentiles(measured: &Measured) -> Series {
    let points = PERCENTILES.iter().filter(|percentile| **percentile < 100.0).map(|percentile| {
        let y = millis_at(&measured.latency, *percentile);
        Point { x: *percentile, y, ends: (y, y) }
    });
    let offered = measured.spread(|sample| sample.offered_per_second).map_or(0.0, |offered| offered.median);
    let name = format!("{}, {} arrivals a second", measured.step.who.name(), number(offered));
    Series { name, colour: colour(measured.step.who), dashed: false, points: points.collect() }
}

fn batches(page: &mut String, report: &Report) {
    let Some(who) = champion().map(Who::Service) else { return };
    let series: Vec<_> = [Scenario::Hot, Scenario::Uniform, Scenario::Zipf]
        .into_iter()
        .zip(STRATEGIES)
        .map(|(scenario, colour)| {
            let points = report.results.by_callers(scenario, who).into_iter().filter_map(|measured| {
                let y = measured.mean_batch()?;
                Some(Point { x: f64::from(measured.step.callers), y, ends: (y, y) })
            });
            Series { name: scenario.title().into(), colour, dashed: false, points: points.collect() }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    if series.is_empty() {
        return;
    }
    heading(
        page,
        "Batches",
        "How many calls COALESCED commits together: what arrives while a commit is under way forms the next batch. \
         A lone call is a batch of one, at once.",
    );
    let x = Axis { name: "callers at once", kind: Kind::Log };
    let y = Axis { name: "calls in a commit, on average", kind: Kind::Log };
    figure(page, "Mean batch", &lines(x, y, &series));
    for scenario in [Scenario::Hot, Scenario::Uniform] {
        let Some(measured) = report.results.by_callers(scenario, who).pop() else { continue };
        let title = format!(
            "{}, {} callers: share of calls by the size of their batch",
            scenario.title(),
            measured.step.callers
        );
        figure(page, &title, &bars(&title, &shares(measured)));
    }
}

/// How many successes were in batches of 1, 2 to 3, 4 to 7, and so on.
fn shares(measured: &Measured) -> Vec<Bar> {
    let all: u64 = measured.batches.values().sum();
    let largest = measured.batches.keys().next_back().copied().unwrap_or(1);
    let sizes = (0..32).map(|power| 1u32 << power).take_while(|size| *size <= largest);
    let bars = sizes.map(|size| {
        let end = size.saturating_mul(2) - 1;
        let count: u64 = measured.batches.range(size..=end).map(|(_, count)| count).sum();
        let value = count as f64 / all as f64 * 100.0;
        let name = if size == 1 { "1".into() } else { format!("{size} to {end}") };
        Bar { name, value, colour: colour(measured.step.who), label: format!("{} %", number(value)) }
    });
    bars.collect()
}

fn method(page: &mut String, report: &Report) {
    heading(page, "How it was measured", "");
    page.push_str(include_str!("method.html"));
    let method = &report.method;
    let machine = &report.machine;
    page.push_str("<dl>");
    let mut term = |name: &str, value: String| {
        let _ = write!(page, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(&value));
    };
    term("rounds", format!("{}, every second one backwards", method.rounds));
    term("each measurement", format!("{} s after {} s of warm-up", method.seconds, method.warm_up_seconds));
    term("events", number(f64::from(method.events)));
    if let Some(filled) = method.filled_reservations {
        term("the full table", format!("{} reservations in a tenth as many events", number(filled as f64)));
    }
    term("request_id with each call", if method.request_ids { "yes" } else { "no" }.into());
    term("checkpoints", if method.checkpoints { "before each measurement" } else { "left to PostgreSQL" }.into());
    term("processor", format!("{}, {} cores", machine.processor, machine.cores));
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    term("memory", machine.memory_bytes.map_or("unknown".into(), gib));
    term("kernel", machine.kernel.clone());
    let sync = |millis: f64| format!("{millis:.2} ms for a small write to be safe (fdatasync, median)");
    term("disk", machine.disk_sync_ms.map_or("unknown".into(), sync));
    let Pauses { longest_ms, share } = machine.pauses;
    let still = format!("for {longest_ms:.1} ms at the longest, {:.2} % of the time, before the run", share * 100.0);
    term("cores stood still by themselves", still);
    for (name, value) in &report.postgres {
        term(&format!("PostgreSQL: {name}"), value.clone());
    }
    page.push_str("</dl>");
    let _ = write!(
        page,
        "<details><summary>The server's settings</summary><pre>{}</pre></details>",
        escaped(&report.settings)
    );
    for peer in Peer::ALL {
        let _ = write!(
            page,
            "<details><summary>{}: its script</summary><pre>{}</pre></details>",
            Who::Peer(peer).name(),
            escaped(peer.script())
        );
    }
}

fn numbers(page: &mut String, report: &Report) {
    heading(page, "All numbers", "report.json beside this file has them for machines, round by round.");
    for scenario in report.results.scenarios() {
        let _ = write!(page, "<details><summary>{}</summary><div class=\"scroll\"><table><tr>", scenario.title());
        terminal::COLUMNS.iter().for_each(|column| {
            let _ = write!(page, "<th>{column}");
        });
        page.push_str("</tr>");
        for row in terminal::rows(report, scenario) {
            let cells: Vec<_> = row.iter().map(|cell| format!("<td>{}", escaped(cell))).collect();
            let _ = write!(page, "<tr>{}</tr>", cells.concat());
        }
        page.push_str("</table></div></details>");
    }
}
