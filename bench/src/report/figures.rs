//! Which plots a run makes.

use plotters::style::RGBColor;

use super::{
    plots::{Axis, Bar, Kind, Point, Series, bars, lines},
    text::number,
};
use crate::{
    Failure,
    results::{Measured, Results},
    scenario::{Peer, Scenario, Who, champion},
    tally::{PERCENTILES, Sample, Spread, millis_at},
};

const CALLERS: Axis = Axis { name: "callers at once", kind: Kind::Log };
const MILLISECONDS: Axis = Axis { name: "milliseconds (logarithmic)", kind: Kind::Log };

/// A plot: its name as a file, what to know about it, and itself.
pub struct Plot {
    pub name: String,
    pub note: &'static str,
    pub svg: String,
}

/// All plots of a run.
pub fn plots(results: &Results) -> Result<Vec<Plot>, Failure> {
    let mut plots = Vec::new();
    for scenario in results.scenarios() {
        match scenario.arrivals() {
            None => by_callers(&mut plots, results, scenario)?,
            Some((base, _)) => open_loop(&mut plots, results, scenario, base)?,
        }
    }
    batches(&mut plots, results)?;
    Ok(plots)
}

/// Told apart also by those who see few colours. The other build has its strategy's colour.
fn colour(who: Who) -> RGBColor {
    match who {
        Who::Peer(Peer::Plain) => RGBColor(0x7a, 0x7f, 0x87),
        Who::Peer(Peer::Versioned) => RGBColor(0xcc, 0x79, 0xa7),
        Who::Service(strategy) | Who::Before(strategy) => match i32::from(strategy) {
            1 => RGBColor(0xd5, 0x5e, 0x00),
            2 => RGBColor(0x00, 0x9e, 0x73),
            3 => RGBColor(0x00, 0x72, 0xb2),
            _ => RGBColor(0xe6, 0x9f, 0x00),
        },
    }
}

/// A paler shade, for the lesser line of a pair.
fn paler(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let towards_white = |part: u8| u8::MAX - (u8::MAX - part) / 2;
    RGBColor(towards_white(red), towards_white(green), towards_white(blue))
}

/// A line for each contender of a scenario, over the number of callers.
fn over_callers(
    results: &Results,
    scenario: Scenario,
    (name, shade): (&str, fn(RGBColor) -> RGBColor),
    take: impl Fn(&Sample) -> Option<f64>,
) -> Vec<Series> {
    let series = results.contenders(scenario).into_iter().map(|who| {
        let points = results.by_callers(scenario, who).into_iter().filter_map(|measured| {
            let Spread { median, min, max } = measured.spread(&take)?;
            Some(Point { x: f64::from(measured.step.callers), y: median, ends: (min, max) })
        });
        let dashed = !matches!(who, Who::Service(_));
        Series { name: format!("{}{name}", who.name()), colour: shade(colour(who)), dashed, points: points.collect() }
    });
    series.filter(|series| !series.points.is_empty()).collect()
}

fn by_callers(plots: &mut Vec<Plot>, results: &Results, scenario: Scenario) -> Result<(), Failure> {
    let same = |colour| colour;
    let rates = over_callers(results, scenario, ("", same), |sample| Some(sample.per_second));
    let mut latencies = over_callers(results, scenario, (", p99", same), |sample| Some(sample.latency_ms?.p99));
    latencies.extend(over_callers(results, scenario, (", p50", paler), |sample| Some(sample.latency_ms?.p50)));
    if rates.iter().all(|series| series.points.len() < 2) {
        return as_bars(plots, scenario, &rates, &latencies);
    }
    let title = |what| format!("{}: {what}", scenario.title());
    let rate = Axis { name: "successes a second", kind: Kind::Linear };
    plots.push(Plot {
        name: format!("{}-throughput", scenario.name()),
        note: "Each caller waits for its answer before it calls again; callers of pgbench are its clients, each with a \
               connection of its own. Bars at the points show how far the rounds were apart.",
        svg: lines(&title("throughput"), CALLERS, rate, &rates)?,
    });
    plots.push(Plot {
        name: format!("{}-latency", scenario.name()),
        note: "From a call to its answer.",
        svg: lines(&title("latency"), CALLERS, MILLISECONDS, &latencies)?,
    });
    Ok(())
}

/// Where only one number of callers was measured, there is no line to draw.
fn as_bars(plots: &mut Vec<Plot>, scenario: Scenario, rates: &[Series], latencies: &[Series]) -> Result<(), Failure> {
    let named = [("throughput", "successes a second", rates), ("latency", "milliseconds", latencies)];
    for (what, unit, series) in named.into_iter().filter(|(_, _, series)| !series.is_empty()) {
        let bar = |Series { name, colour, points, .. }: &Series| Bar {
            name: format!("{name}, {} at once", number(points[0].x)),
            colour: *colour,
            point: points[0],
        };
        plots.push(Plot {
            name: format!("{}-{what}", scenario.name()),
            note: "Each caller waits for its answer before it calls again. A line on a bar shows how far the rounds were apart.",
            svg: bars(&format!("{}: {what}", scenario.title()), unit, &series.iter().map(bar).collect::<Vec<_>>())?,
        });
    }
    Ok(())
}

fn open_loop(plots: &mut Vec<Plot>, results: &Results, scenario: Scenario, base: Scenario) -> Result<(), Failure> {
    let mut series: Vec<_> = results.of(scenario).filter(|it| !it.latency.is_empty()).map(percentiles).collect();
    if let Some(rate) = results.at(base, Who::Peer(Peer::Plain), 1).and_then(Measured::rate) {
        let y = 1000.0 / rate.median;
        series.push(Series {
            name: "pgbench, plain transaction, one client: mean".into(),
            colour: colour(Who::Peer(Peer::Plain)),
            dashed: true,
            points: [0.0, 99.99].map(|x| Point { x, y, ends: (y, y) }).to_vec(),
        });
    }
    plots.push(Plot {
        name: scenario.name(),
        note: "Arrivals come at a fixed rate and do not wait for each other: at half of the highest rate that the same \
               contender has reached before, or, where all have the same rate, the slowest. Latency counts from the moment an arrival was due, so that a stall is charged for all \
               that came meanwhile. Each step to the right is ten times as rare.",
        svg: lines(scenario.title(), Axis { name: "percentile", kind: Kind::Nines }, MILLISECONDS, &series)?,
    });
    Ok(())
}

fn percentiles(measured: &Measured) -> Series {
    let points = PERCENTILES.iter().filter(|percentile| **percentile < 100.0).map(|percentile| {
        let y = millis_at(&measured.latency, *percentile);
        Point { x: *percentile, y, ends: (y, y) }
    });
    let offered = measured.spread(|sample| sample.offered_per_second).map_or(0.0, |offered| offered.median);
    let who = measured.step.who;
    Series {
        name: format!("{}, {} arrivals a second", who.name(), number(offered)),
        colour: colour(who),
        dashed: !matches!(who, Who::Service(_)),
        points: points.collect(),
    }
}

fn batches(plots: &mut Vec<Plot>, results: &Results) -> Result<(), Failure> {
    let Some(strategy) = champion() else { return Ok(()) };
    let colours = [Who::Service(strategy), Who::Peer(Peer::Plain), Who::Peer(Peer::Versioned)].map(colour);
    let scenarios = [Scenario::Hot, Scenario::Uniform, Scenario::Zipf].into_iter().zip(colours);
    let series = scenarios.map(|(scenario, colour)| {
        let measured = results.by_callers(scenario, Who::Service(strategy)).into_iter();
        let points = measured.filter_map(|measured| {
            let y = measured.mean_batch()?;
            Some(Point { x: f64::from(measured.step.callers), y, ends: (y, y) })
        });
        Series { name: scenario.title().into(), colour, dashed: false, points: points.collect() }
    });
    let series: Vec<_> = series.filter(|series| !series.points.is_empty()).collect();
    if !series.is_empty() {
        let y = Axis { name: "calls in a commit, on average", kind: Kind::Log };
        plots.push(Plot {
            name: "batches".into(),
            note: "How many calls COALESCED commits together: calls that arrive during a commit form the next batch. A lone \
                   call is a batch of one, at once.",
            svg: lines("Mean batch of COALESCED", CALLERS, y, &series)?,
        });
    }
    Ok(())
}
