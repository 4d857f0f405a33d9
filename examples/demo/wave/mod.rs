//! A wave of travellers over some flights: every kind of call at once, with every strategy, then an audit. Whatever breaks
//! one of reservd's promises is a problem.

mod audit;
mod report;
mod tally;
mod traveller;

use std::time::{Duration, Instant};

use futures::future::join_all;
use indicatif::ProgressBar;
use serde::Deserialize;
use tonic::{Status, transport::Channel};

use audit::Audit;
use tally::Tally;
use traveller::Traveller;

/// The flight that all want at first is the smallest one with at least this many seats.
const RUSH_SEATS: i32 = 20;
/// Half of the trips go to this many flights, the other half to any.
const POPULAR_FLIGHTS: usize = 16;

/// A flight on which seats are reserved: an event.
#[derive(Clone, Debug, Deserialize)]
pub struct Flight {
    pub event_id: String,
    pub capacity: i32,
}

/// What the wave consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least one.
    pub flights: Vec<Flight>,
    pub travellers: usize,
    /// How many trips each of them makes after the rush.
    pub trips: usize,
    /// Begins the names of the travellers: a wave of another name finds none of them there.
    pub name: String,
    /// The same seed makes the same wishes.
    pub seed: u64,
}

/// What came of a wave.
pub struct Outcome {
    pub tally: Tally,
    pub audit: Audit,
    pub took: Duration,
    /// The flight that all wanted at first.
    pub rush: Flight,
}

impl Outcome {
    /// Everything that broke a promise, a sentence each.
    pub fn problems(&self) -> Vec<&str> {
        self.tally.problems.iter().chain(&self.audit.problems).map(String::as_str).collect()
    }
}

impl Plan {
    /// Steps of the progress bar: each traveller's rush and trips.
    fn steps(&self) -> u64 {
        (self.travellers * (self.trips + 1)) as u64
    }

    fn rush(&self) -> &Flight {
        let airliners = self.flights.iter().filter(|flight| flight.capacity >= RUSH_SEATS);
        let smallest = airliners.min_by_key(|flight| flight.capacity);
        smallest.unwrap_or(&self.flights[0])
    }

    fn destination(&self, rng: &mut fastrand::Rng) -> &Flight {
        let popular = POPULAR_FLIGHTS.min(self.flights.len());
        let index = if rng.bool() {
            // Spread over the list, so that small and large ones are among them.
            rng.usize(..popular) * (self.flights.len() / popular)
        } else {
            rng.usize(..self.flights.len())
        };
        &self.flights[index]
    }
}

/// Sends the wave over these connections, waits for its end, and audits the result.
pub async fn run(plan: &Plan, channels: &[Channel], bar: &ProgressBar) -> Result<Outcome, Status> {
    let began = Instant::now();
    bar.set_length(plan.steps());
    let travellers = (0..plan.travellers).map(|number| {
        let channel = channels[number % channels.len()].clone();
        let traveller = Traveller::new(format!("{}-{number}", plan.name), channel, plan.seed + number as u64);
        tokio::spawn(travel(traveller, plan.clone(), bar.clone()))
    });
    let mut tally = Tally::default();
    for tallied in join_all(travellers).await {
        tally.add(tallied.expect("no traveller panics"));
    }
    let took = began.elapsed();
    let audit = audit::check(plan, &channels[0], &tally, bar).await?;
    Ok(Outcome { tally, audit, took, rush: plan.rush().clone() })
}

async fn travel(mut traveller: Traveller, plan: Plan, bar: ProgressBar) -> Tally {
    traveller.rush(&plan.rush().event_id).await;
    bar.inc(1);
    for _ in 0..plan.trips {
        let flight = plan.destination(traveller.rng());
        traveller.trip(&flight.event_id).await;
        bar.inc(1);
    }
    traveller.into_tally()
}
