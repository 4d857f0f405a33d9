//! What is measured in which order. A round measures everything once; peers, service and the build it is
//! compared with alternate in it, and every second round goes backwards, so that a machine that becomes
//! slower or faster meanwhile does not favour one of them.

use std::time::Duration;

use clap::ValueEnum;

use crate::{
    pb,
    scenario::{Peer, Scenario, Who, Work, champion},
    seed::Fill,
};

/// What two builds are compared by, unless more is asked for.
pub const COMPARED: [Scenario; 2] = [Scenario::Hot, Scenario::Uniform];

/// Numbers of callers of a life, and at an event that is watched, where more numbers are given.
const LIFE_CALLERS: [u32; 2] = [64, 512];
const WATCHED_CALLERS: [u32; 1] = [64];
/// Callers that are ready for arrivals of an open loop: any number is right that is large enough.
pub const OPEN_LOOP_CALLERS: u32 = 512;
/// Enough to keep a server overloaded that lets 1,024 calls in.
pub const OVERLOAD_CALLERS: u32 = 4096;
/// Callers that the empty and the full table are compared with.
const TABLE_CALLERS: u32 = 64;

/// What to measure, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scenarios: Vec<Scenario>,
    pub strategies: Vec<pb::ExecutionStrategy>,
    pub callers: Vec<u32>,
    /// Clients of pgbench; none: no peers.
    pub clients: Vec<u32>,
    /// Whether another build is measured beside.
    pub compare: bool,
    pub rounds: u32,
    pub warm_up: Duration,
    pub duration: Duration,
    pub overload_duration: Duration,
    pub events: u32,
    pub filled: Option<Fill>,
    pub authentication: bool,
    pub request_ids: bool,
    /// Whether there is one before each measurement.
    pub checkpoints: bool,
}

/// One measurement: who does what, how often at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    pub scenario: Scenario,
    pub who: Who,
    /// Callers; of a peer, clients.
    pub callers: u32,
}

/// What is measured when nothing else is asked for: all that needs no full table, less where it has
/// to be quick.
pub fn default_scenarios(quick: bool) -> Vec<Scenario> {
    let all = Scenario::value_variants().iter().copied().filter(|it| it.to_possible_value().is_some());
    let leave_out = [Scenario::UniformLife, Scenario::ZipfLife, Scenario::Watched, Scenario::Overload];
    all.filter(|scenario| !(quick && leave_out.contains(scenario))).collect()
}

impl Plan {
    /// Adds the scenarios that others are measured against, in the order of their definition.
    pub fn complete(mut self) -> Self {
        let bases: Vec<_> = self.scenarios.iter().filter_map(|it| it.arrivals()).map(|(base, _)| base).collect();
        self.scenarios.extend(bases);
        self.scenarios.sort_unstable();
        self.scenarios.dedup();
        self
    }

    /// The measurements of a round, from 1, on the main stage.
    pub fn round(&self, number: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        let once = [Scenario::Sustained, Scenario::Overload, Scenario::AfterOverload];
        for scenario in self.scenarios.iter().filter(|scenario| !once.contains(scenario)) {
            let peers = |peer| self.clients.iter().map(move |clients| (Who::Peer(peer), *clients));
            let with_peers = scenario.has_peers();
            let mut add = |(who, callers)| steps.push(Step { scenario: *scenario, who, callers });
            if with_peers {
                peers(Peer::Plain).for_each(&mut add);
            }
            for callers in self.callers_of(*scenario) {
                for strategy in &self.strategies {
                    add((Who::Service(*strategy), callers));
                    if self.compare {
                        add((Who::Before(*strategy), callers));
                    }
                }
            }
            if with_peers {
                peers(Peer::Versioned).for_each(&mut add);
            }
        }
        if number.is_multiple_of(2) {
            steps.reverse();
        }
        steps
    }

    /// The overload, what it is compared with, and what comes right after it: once, last.
    pub fn overload(&self) -> Vec<Step> {
        let strategy = champion().filter(|champion| self.strategies.contains(champion));
        let Some(strategy) = strategy.or_else(|| self.strategies.first().copied()) else { return Vec::new() };
        let who = Who::Service(strategy);
        if !self.scenarios.contains(&Scenario::Overload) {
            return Vec::new();
        }
        vec![
            Step { scenario: Scenario::Sustained, who, callers: OPEN_LOOP_CALLERS },
            Step { scenario: Scenario::Overload, who, callers: OVERLOAD_CALLERS },
            Step { scenario: Scenario::AfterOverload, who, callers: OPEN_LOOP_CALLERS },
        ]
    }

    /// The measurements of a round on the empty and on the full table.
    pub fn table_round(&self, number: u32) -> Vec<Step> {
        let scenarios = [Scenario::Empty, Scenario::Filled, Scenario::FilledWide];
        let mut steps: Vec<_> = self
            .strategies
            .iter()
            .flat_map(|strategy| scenarios.map(|scenario| (scenario, Who::Service(*strategy))))
            .map(|(scenario, who)| Step { scenario, who, callers: TABLE_CALLERS })
            .collect();
        if number.is_multiple_of(2) {
            steps.reverse();
        }
        steps
    }

    /// The measurements of a round with and without authentication.
    pub fn authentication_round(&self, number: u32) -> Vec<Step> {
        let Some(champion) = champion() else { return Vec::new() };
        let who = Who::Service(champion);
        let pairs = self.callers_of(Scenario::HotLife).into_iter();
        let mut steps: Vec<_> = pairs
            .flat_map(|callers| [Scenario::Open, Scenario::Guarded].map(|scenario| Step { scenario, who, callers }))
            .collect();
        if number.is_multiple_of(2) {
            steps.reverse();
        }
        steps
    }

    fn callers_of(&self, scenario: Scenario) -> Vec<u32> {
        if scenario.arrivals().is_some() {
            return vec![OPEN_LOOP_CALLERS];
        }
        let few: &[u32] = match scenario {
            Scenario::Watched => &WATCHED_CALLERS,
            _ if scenario.work() == Work::Life => &LIFE_CALLERS,
            _ => &[],
        };
        let some: Vec<_> = self.callers.iter().copied().filter(|callers| few.contains(callers)).collect();
        if some.is_empty() { self.callers.clone() } else { some }
    }

    /// How long a measurement takes, with its warm-up.
    pub fn time_of(&self, step: Step) -> Duration {
        self.warm_up + self.duration_of(step)
    }

    /// How long a measurement is.
    pub fn duration_of(&self, step: Step) -> Duration {
        let is_long = matches!(step.scenario, Scenario::Sustained | Scenario::Overload);
        if is_long { self.overload_duration } else { self.duration }
    }

    /// How long all measurements take.
    pub fn time(&self) -> Duration {
        let rounds: Duration = (1..=self.rounds)
            .flat_map(|number| {
                let tables = if self.filled.is_some() { self.table_round(number) } else { Vec::new() };
                let authentication = if self.authentication { self.authentication_round(number) } else { Vec::new() };
                self.round(number).into_iter().chain(tables).chain(authentication)
            })
            .map(|step| self.time_of(step))
            .sum();
        rounds + self.overload().into_iter().map(|step| self.time_of(step)).sum::<Duration>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(scenarios: &[Scenario]) -> Plan {
        Plan {
            scenarios: scenarios.to_vec(),
            strategies: crate::scenario::strategies(),
            callers: vec![1, 64],
            clients: vec![1, 8],
            compare: false,
            rounds: 2,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            overload_duration: Duration::from_secs(60),
            events: 10,
            filled: None,
            authentication: false,
            request_ids: false,
            checkpoints: true,
        }
        .complete()
    }

    #[test]
    fn a_rate_that_is_a_part_of_another_is_measured_after_it() {
        let plan = plan(&[Scenario::UniformHalfRate]);
        assert_eq!(plan.scenarios, [Scenario::Uniform, Scenario::UniformHalfRate]);
        let scenarios: Vec<_> = plan.round(1).into_iter().map(|step| step.scenario).collect();
        assert!(scenarios.is_sorted(), "{scenarios:?}");
    }

    #[test]
    fn peers_stand_on_both_sides_of_the_service_and_rounds_alternate() {
        let plan = plan(&[Scenario::Hot]);
        let mut first = plan.round(1);
        assert_eq!(first.first().map(|step| step.who), Some(Who::Peer(Peer::Plain)));
        assert_eq!(first.last().map(|step| step.who), Some(Who::Peer(Peer::Versioned)));
        first.reverse();
        assert_eq!(first, plan.round(2));
    }

    #[test]
    fn two_builds_are_measured_one_right_after_the_other_first_this_then_that() {
        let plan = Plan { compare: true, ..plan(&[Scenario::Hot]) };
        let service = |round| plan.round(round).into_iter().filter(|step| !matches!(step.who, Who::Peer(_)));
        let first: Vec<_> = service(1).collect();
        for pair in first.chunks(2) {
            assert_eq!(pair[0].callers, pair[1].callers);
            assert!(matches!((pair[0].who, pair[1].who), (Who::Service(one), Who::Before(other)) if one == other));
        }
        assert!(matches!(service(2).next(), Some(Step { who: Who::Before(_), .. })));
    }

    #[test]
    fn the_overload_comes_once() {
        let plan = plan(&[Scenario::Overload]);
        assert!(plan.round(1).iter().all(|step| step.scenario == Scenario::Hot));
        assert_eq!(plan.overload().len(), 3);
        assert_eq!(
            plan.time(),
            Duration::from_secs(6) * 2 * plan.round(1).len() as u32 + Duration::from_secs(61 + 61 + 6)
        );
    }
}
