//! What is measured: the scenarios, and who competes in them.

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::pb;

/// One way to load the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Reserve, all callers at the same event
    Hot,
    /// Reserve, each time at any of the events
    Uniform,
    /// Reserve, the second most wanted event half as often as the first, and so on
    Zipf,
    /// Reserve, then confirm or cancel (70/30), all callers at the same event
    HotLife,
    /// Reserve, then confirm or cancel (70/30), at any of the events
    UniformLife,
    /// Reserve, then confirm or cancel (70/30), some events more wanted than others
    ZipfLife,
    /// Reserve, all callers at the same event, which a thousand others watch
    Watched,
    /// Reserve at the same event, at half of the highest rate, not waiting for answers
    HotHalfRate,
    /// Reserve at any of the events, at half of the highest rate, not waiting for answers
    UniformHalfRate,
    /// Reserve at the same event, each strategy at half of the highest rate of the slowest
    HotSameRate,
    /// Reserve at any of the events, each strategy at half of the highest rate of the slowest
    UniformSameRate,
    /// Ten times as many arrivals as were ever served, all at the same event
    Overload,
    /// As long as the overload and right before it, callers who wait for their answers: what to compare
    /// it with, since tables and their indexes grow in a minute
    #[value(skip)]
    Sustained,
    /// The half rate once more, right after the overload
    #[value(skip)]
    AfterOverload,
    /// Reserve at any of the events, in a new database
    #[value(skip)]
    Empty,
    /// The same, where millions of reservations are already there
    #[value(skip)]
    Filled,
    /// Reserve at any of all the events of the full table
    #[value(skip)]
    FilledWide,
    /// Reserve at the same event, at a server without authentication
    #[value(skip)]
    Open,
    /// The same, at a server that takes tokens
    #[value(skip)]
    Guarded,
}

/// Which event a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All want the same.
    Hot,
    /// Each is as good as the other.
    Uniform,
    /// Few are wanted by many.
    Zipf,
}

/// What a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A Reserve, each time by another user.
    Reserve,
    /// A Reserve, and then a Confirm (7 of 10) or a Cancel.
    Life,
}

impl Scenario {
    /// Its name in options, tables and reports.
    pub fn name(self) -> String {
        // The derived name of a variant always exists, also of one that is no option's value.
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What it is, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Hot => "Reserve, one hot event",
            Self::Uniform => "Reserve, uniform over the events",
            Self::Zipf => "Reserve, Zipf over the events",
            Self::HotLife => "Reserve, then confirm or cancel: one hot event",
            Self::UniformLife => "Reserve, then confirm or cancel: uniform over the events",
            Self::ZipfLife => "Reserve, then confirm or cancel: Zipf over the events",
            Self::Watched => "Reserve, one hot event that a thousand watch",
            Self::HotHalfRate => "Half of the peak rate, one hot event",
            Self::UniformHalfRate => "Half of the peak rate, uniform over the events",
            Self::HotSameRate => "The same rate for all, one hot event",
            Self::UniformSameRate => "The same rate for all, uniform over the events",
            Self::Sustained => "Reserve, one hot event, for as long as the overload that follows",
            Self::Overload => "Ten times the peak rate, one hot event",
            Self::AfterOverload => "Half of the peak rate, right after the overload",
            Self::Empty => "Reserve, an empty table",
            Self::Filled => "Reserve, the filled table",
            Self::FilledWide => "Reserve, over all events of the filled table",
            Self::Open => "Reserve, one hot event, without authentication",
            Self::Guarded => "Reserve, one hot event, with authentication by tokens",
        }
    }

    /// Which event its callers want.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Hot
            | Self::HotLife
            | Self::Watched
            | Self::HotHalfRate
            | Self::HotSameRate
            | Self::Sustained
            | Self::Overload
            | Self::AfterOverload
            | Self::Open
            | Self::Guarded => Shape::Hot,
            Self::Zipf | Self::ZipfLife => Shape::Zipf,
            Self::Uniform
            | Self::UniformLife
            | Self::UniformHalfRate
            | Self::UniformSameRate
            | Self::Empty
            | Self::Filled
            | Self::FilledWide => Shape::Uniform,
        }
    }

    /// What its callers do.
    pub const fn work(self) -> Work {
        match self {
            Self::HotLife | Self::UniformLife | Self::ZipfLife => Work::Life,
            _ => Work::Reserve,
        }
    }

    /// The scenario that tells the highest rate, for one that arrives at a part or a multiple of it,
    /// and the factor. None: its callers wait for answers.
    pub const fn arrivals(self) -> Option<(Self, f64)> {
        match self {
            Self::HotHalfRate | Self::HotSameRate | Self::AfterOverload => Some((Self::Hot, 0.5)),
            Self::UniformHalfRate | Self::UniformSameRate => Some((Self::Uniform, 0.5)),
            Self::Overload => Some((Self::Hot, 10.0)),
            _ => None,
        }
    }

    /// Whether all strategies get the same arrivals, by the highest rate of the slowest.
    pub const fn has_one_rate(self) -> bool {
        matches!(self, Self::HotSameRate | Self::UniformSameRate)
    }

    /// How many watch the hot event meanwhile.
    pub const fn watchers(self) -> Option<u32> {
        match self {
            Self::Watched => Some(1000),
            _ => None,
        }
    }

    /// The scenario that pgbench does too.
    pub const fn has_peers(self) -> bool {
        matches!(self, Self::Hot | Self::Uniform)
    }
}

/// A way to reserve with SQL alone, done by pgbench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// BEGIN; SELECT ... FOR UPDATE; INSERT; UPDATE; COMMIT.
    Plain,
    /// Reads the version; updates where it is still the same; else tries again.
    Versioned,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Versioned];

    /// Its script for pgbench.
    pub const fn script(self) -> &'static str {
        match self {
            Self::Plain => include_str!("sql/plain_transaction.sql"),
            Self::Versioned => include_str!("sql/read_version_and_update.sql"),
        }
    }
}

/// Who competes: reservd with one of its strategies, the build it is compared with, or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// reservd over gRPC.
    Service(pb::ExecutionStrategy),
    /// The reservd of `--compare`.
    Before(pb::ExecutionStrategy),
    /// pgbench.
    Peer(Peer),
}

impl Who {
    /// Its name in tables and reports.
    pub fn name(self) -> String {
        match self {
            Self::Service(strategy) => strategy_name(strategy).into(),
            Self::Before(strategy) => format!("{}, before", strategy_name(strategy)),
            Self::Peer(Peer::Plain) => "pgbench, plain transaction".into(),
            Self::Peer(Peer::Versioned) => "pgbench, version and retry".into(),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Every strategy that the API knows, in the order of its numbers.
pub fn strategies() -> Vec<pb::ExecutionStrategy> {
    (1..).map_while(|number| pb::ExecutionStrategy::try_from(number).ok()).collect()
}

/// The strategy that the figures are about.
pub fn champion() -> Option<pb::ExecutionStrategy> {
    pb::ExecutionStrategy::from_str_name("EXECUTION_STRATEGY_COALESCED")
}

/// A strategy's name, as the settings spell it.
pub fn strategy_name(strategy: pb::ExecutionStrategy) -> &'static str {
    strategy.as_str_name().trim_start_matches("EXECUTION_STRATEGY_")
}

/// The strategy of this name, in any case.
pub fn parse_strategy(name: &str) -> Result<pb::ExecutionStrategy, String> {
    let known = strategies();
    let names: Vec<_> = known.iter().map(|known| strategy_name(*known)).collect();
    let found = known.iter().find(|known| strategy_name(**known).eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| format!("must be one of {}", names.join(", ").to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_of_the_api_competes() {
        let names: Vec<_> = strategies().into_iter().map(strategy_name).collect();
        assert!(names.contains(&"PESSIMISTIC") && names.contains(&"OPTIMISTIC"), "{names:?}");
        assert!(!names.contains(&"UNSPECIFIED"));
        for name in names {
            assert_eq!(parse_strategy(&name.to_lowercase()).map(strategy_name), Ok(name));
        }
    }

    #[test]
    fn a_scenario_has_one_name_for_options_and_reports() {
        assert_eq!(Scenario::HotHalfRate.name(), "hot-half-rate");
        for scenario in Scenario::value_variants() {
            if let Some(value) = scenario.to_possible_value() {
                assert_eq!(value.get_name(), scenario.name());
            }
        }
    }
}
