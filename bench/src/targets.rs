//! The targets that this project sets itself: ratios of one run on one machine.

use serde::Serialize;

use crate::{
    pb,
    plan::{OPEN_LOOP_CALLERS, OVERLOAD_CALLERS},
    results::{Measured, Results, ratio},
    scenario::{Peer, Scenario, Who, champion},
    tally::{Sample, Spread},
};

/// One target: the bound, the aim, and the measured value.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What is compared with what.
    pub name: &'static str,
    /// The bound.
    pub at_least: f64,
    /// The aim.
    pub aim: f64,
    /// Whether smaller is better.
    pub smaller_is_better: bool,
    /// "x" for a ratio, or what it is measured in.
    pub unit: &'static str,
    /// What was measured: the median over the rounds, and how far they are apart.
    pub measured: Option<Spread>,
    /// What it was computed from, with numbers.
    pub from: String,
    /// Whether it is reached.
    pub verdict: Verdict,
}

/// Whether a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As good as the aim, or better.
    Aim,
    /// As good as it must at least be.
    Reached,
    /// Worse.
    Short,
    /// Not part of this run.
    NotMeasured,
}

impl Verdict {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Aim => "aim reached",
            Self::Reached => "reached",
            Self::Short => "SHORT",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A measured value and where it comes from.
type Found = Option<(Spread, String)>;

struct Row {
    name: &'static str,
    at_least: f64,
    aim: f64,
    smaller_is_better: bool,
    unit: &'static str,
    found: Found,
}

/// All targets of a run.
pub fn targets(results: &Results) -> Vec<Target> {
    let champion = champion().map(Who::Service);
    let find = |find: &dyn Fn(Who) -> Found| champion.and_then(find);
    let more = |name, at_least, aim, found| Row { name, at_least, aim, smaller_is_better: false, unit: "x", found };
    let less = |name, at_least, aim, found| Row { name, at_least, aim, smaller_is_better: true, unit: "x", found };
    let pessimistic = Who::Service(pb::ExecutionStrategy::Pessimistic);
    let rows = [
        more(
            "One hot event, COALESCED with 64 to 512 callers (the worst of them), against pgbench's plain transaction at its best",
            10.0,
            15.0,
            find(&|who| hot_crowd(results, who)),
        ),
        more(
            "Uniform over the events, COALESCED, against pgbench's plain transaction, each at its best",
            2.5,
            4.0,
            find(&|who| against_plain(results, Scenario::Uniform, who)),
        ),
        less(
            "One caller at a time, COALESCED against PESSIMISTIC, median latency (the worse of hot and uniform)",
            1.0,
            0.995,
            find(&|who| alone(results, who, pessimistic)),
        ),
        less(
            "One hot event, COALESCED, p99 at half of the peak rate, against pgbench's latency at one client",
            3.0,
            2.0,
            find(&|who| half_rate(results, Scenario::HotHalfRate, who)),
        ),
        less(
            "Uniform, COALESCED, p99 at half of the peak rate, against pgbench's latency at one client",
            3.0,
            2.0,
            find(&|who| half_rate(results, Scenario::UniformHalfRate, who)),
        ),
        more(
            "One hot event, COALESCED, throughput with 512 callers against 64",
            0.95,
            1.1,
            find(&|who| {
                let (many, some) = (results.at(Scenario::Hot, who, 512)?, results.at(Scenario::Hot, who, 64)?);
                rates(many, some)
            }),
        ),
        more(
            "One hot event, COALESCED, served at ten times the peak rate, against what it sustains for as long",
            0.9,
            0.97,
            find(&|who| {
                let offered = results.at(Scenario::Overload, who, OVERLOAD_CALLERS)?;
                rates(offered, results.at(Scenario::Sustained, who, OPEN_LOOP_CALLERS)?)
            }),
        ),
        more(
            "One hot event, COALESCED, 64 callers, throughput while a thousand watch against none",
            0.9,
            0.97,
            find(&|who| rates(results.at(Scenario::Watched, who, 64)?, results.at(Scenario::Hot, who, 64)?)),
        ),
        more(
            "The full table against an empty one, COALESCED, throughput",
            0.85,
            0.95,
            find(&|who| rates(results.best(Scenario::Filled, who)?, results.best(Scenario::Empty, who)?)),
        ),
        more(
            "Uniform, PESSIMISTIC, against pgbench's plain transaction, each at its best",
            0.6,
            0.8,
            against_plain(results, Scenario::Uniform, pessimistic),
        ),
        Row {
            name: "One hot event, COALESCED: what authentication costs (the worst number of callers), as a part of the rate",
            at_least: 0.05,
            aim: 0.02,
            smaller_is_better: true,
            unit: "of 1",
            found: find(&|who| authentication(results, who)),
        },
        Row {
            name: "The server's resident memory at 512 callers (the most in any scenario)",
            at_least: 96.0,
            aim: 64.0,
            smaller_is_better: true,
            unit: "MiB",
            found: memory(results),
        },
    ];
    rows.into_iter().map(judge).collect()
}

fn judge(row: Row) -> Target {
    let Row { name, at_least, aim, smaller_is_better, unit, found } = row;
    // As printed: a third digit is noise.
    let measured = found.as_ref().map(|(spread, _)| (spread.median * 1000.0).round() / 1000.0);
    let meets = |value: f64, bound: f64| if smaller_is_better { value <= bound } else { value >= bound };
    let verdict = match measured {
        None => Verdict::NotMeasured,
        Some(value) if meets(value, aim) => Verdict::Aim,
        Some(value) if meets(value, at_least) => Verdict::Reached,
        Some(_) => Verdict::Short,
    };
    let (measured, from) = found.map_or((None, String::new()), |(spread, from)| (Some(spread), from));
    Target { name, at_least, aim, smaller_is_better, unit, measured, from, verdict }
}

fn rate(sample: &Sample) -> Option<f64> {
    Some(sample.per_second)
}

fn p50(sample: &Sample) -> Option<f64> {
    sample.latency_ms.map(|latency| latency.p50)
}

fn rates(over: &Measured, under: &Measured) -> Found {
    let from = format!("{} against {} a second", median_rate(over), median_rate(under));
    Some((ratio(over, under, rate, rate)?, from))
}

fn median_rate(measured: &Measured) -> String {
    let median = measured.rate().map_or(0.0, |rate| rate.median);
    format!("{median:.0} (at {})", measured.step.callers)
}

/// The worst of several findings.
fn worst(found: impl Iterator<Item = Found>, smaller_is_better: bool) -> Found {
    let sign = if smaller_is_better { -1.0 } else { 1.0 };
    found.flatten().min_by(|(a, _), (b, _)| (sign * a.median).total_cmp(&(sign * b.median)))
}

fn against_plain(results: &Results, scenario: Scenario, who: Who) -> Found {
    rates(results.best(scenario, who)?, results.best(scenario, Who::Peer(Peer::Plain))?)
}

fn hot_crowd(results: &Results, who: Who) -> Found {
    let plain = results.best(Scenario::Hot, Who::Peer(Peer::Plain))?;
    let crowds = results.by_callers(Scenario::Hot, who).into_iter().filter(|it| (64..=512).contains(&it.step.callers));
    worst(crowds.map(|crowd| rates(crowd, plain)), false)
}

fn alone(results: &Results, who: Who, other: Who) -> Found {
    let pairs = [Scenario::Hot, Scenario::Uniform].into_iter().filter_map(|scenario| {
        let (ours, theirs) = (results.at(scenario, who, 1)?, results.at(scenario, other, 1)?);
        let millis = |measured: &Measured| measured.spread(p50).map_or(0.0, |spread| spread.median);
        let from = format!("{:.3} ms against {:.3} ms", millis(ours), millis(theirs));
        Some(ratio(ours, theirs, p50, p50).map(|spread| (spread, from)))
    });
    worst(pairs, true)
}

fn half_rate(results: &Results, scenario: Scenario, who: Who) -> Found {
    let (base, _) = scenario.arrivals()?;
    let half = results.best(scenario, who)?;
    let peer = results.at(base, Who::Peer(Peer::Plain), 1)?;
    // One client waits for each answer: its latency is the time between two.
    let latency = |sample: &Sample| Some(1000.0 / sample.per_second);
    let p99 = |sample: &Sample| sample.latency_ms.map(|latency| latency.p99);
    let median = |measured: &Measured, number: &dyn Fn(&Sample) -> Option<f64>| {
        measured.spread(number).map_or(0.0, |spread| spread.median)
    };
    let offered = median(half, &|sample| sample.offered_per_second);
    let from = format!(
        "{:.2} ms at {offered:.0} arrivals a second against {:.2} ms",
        median(half, &p99),
        median(peer, &latency)
    );
    Some((ratio(half, peer, p99, latency)?, from))
}

fn authentication(results: &Results, who: Who) -> Found {
    let pairs = results.by_callers(Scenario::Guarded, who).into_iter().filter_map(|guarded| {
        let open = results.at(Scenario::Open, who, guarded.step.callers)?;
        let (left, from) = rates(guarded, open)?;
        Some(Some((Spread { median: 1.0 - left.median, min: 1.0 - left.max, max: 1.0 - left.min }, from)))
    });
    worst(pairs, true)
}

fn memory(results: &Results) -> Found {
    const MIB: f64 = 1024.0 * 1024.0;
    let at_512 = results.all().iter().filter(|it| {
        it.step.callers == 512 && it.step.scenario.arrivals().is_none() && matches!(it.step.who, Who::Service(_))
    });
    let peaks = at_512.filter_map(|it| {
        let peak = it.spread(|sample| sample.server_memory_bytes.map(|bytes| bytes as f64 / MIB))?;
        // Memory that was needed once is needed.
        let peak = Spread { median: peak.max, ..peak };
        Some((peak, format!("{}, {}", it.step.scenario.name(), it.step.who.name())))
    });
    peaks.max_by(|(a, _), (b, _)| a.max.total_cmp(&b.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(smaller_is_better: bool, measured: f64) -> Row {
        let (at_least, aim) = if smaller_is_better { (3.0, 2.0) } else { (10.0, 15.0) };
        let spread = Spread { median: measured, min: measured, max: measured };
        Row { name: "", at_least, aim, smaller_is_better, unit: "x", found: Some((spread, String::new())) }
    }

    #[test]
    fn a_target_is_judged_by_its_bound_and_its_aim() {
        for (smaller_is_better, measured, verdict) in [
            (false, 9.9, Verdict::Short),
            (false, 10.0, Verdict::Reached),
            (false, 15.0, Verdict::Aim),
            (true, 3.1, Verdict::Short),
            (true, 3.0, Verdict::Reached),
            (true, 1.9, Verdict::Aim),
        ] {
            assert_eq!(judge(row(smaller_is_better, measured)).verdict, verdict, "{measured}");
        }
    }

    #[test]
    fn without_measurements_no_target_is_claimed() {
        let targets = targets(&Results::default());
        assert!(targets.iter().all(|target| target.verdict == Verdict::NotMeasured && target.measured.is_none()));
    }
}
