//! Carries a plan out.

use std::{path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use reservd::embedded::Embedded;

use crate::{
    Failure,
    load::{self, Load},
    machine::{self, CpuTimes},
    pb,
    peers::Peers,
    pick::{Picker, event_id},
    plan::{Plan, Step},
    program::Program,
    results::Results,
    scenario::{Scenario, Shape, Who},
    stage::{self, Stage},
    tally::{self, Latency, Sample},
    verify::{self, Verified},
    watchers::Watchers,
};

/// The databases of the main stage, of the build it is compared with, and of the empty table.
const MAIN: &str = "reservd_bench";
const BEFORE: &str = "reservd_bench_before";
const EMPTY: &str = "reservd_bench_empty";

/// A running benchmark.
pub struct Run<'a> {
    pub embedded: &'a Embedded,
    pub plan: &'a Plan,
    pub server: &'a Program,
    /// The build to compare it with.
    before: Option<&'a Program>,
    peers: Option<Peers>,
    results: Results,
    verified: Verified,
    bar: ProgressBar,
    seed: u64,
}

impl<'a> Run<'a> {
    /// Nothing measured yet.
    pub fn new(
        embedded: &'a Embedded,
        plan: &'a Plan,
        server: &'a Program,
        before: Option<&'a Program>,
        peers: Option<Peers>,
    ) -> Self {
        let bar = progress_bar(plan.time());
        let (results, verified) = (Results::default(), Verified::default());
        Self { embedded, plan, server, before, peers, results, verified, bar, seed: fastrand::u64(..) }
    }

    /// Measures everything, and audits the events. Keys for tokens are made in the folder `keys`.
    pub async fn carry_out(mut self, keys: &Path) -> Result<(Results, Verified), Failure> {
        self.main_stage().await?;
        if self.plan.filled.is_some() {
            self.tables().await?;
        }
        self.authentication(keys).await?;
        self.bar.finish_and_clear();
        Ok((self.results, self.verified))
    }

    async fn main_stage(&mut self) -> Result<(), Failure> {
        self.bar.set_message("starting the server");
        let database = stage::database(self.embedded, MAIN, false).await?;
        let mut stage = Stage::start(self.embedded, database, self.server).await?;
        stage.prepare_log().await?;
        let mut before = match self.before {
            None => None,
            Some(program) => {
                let database = stage::database(self.embedded, BEFORE, false).await?;
                Some(Stage::start(self.embedded, database, program).await?)
            }
        };
        self.bar.set_message("creating events");
        for stage in [Some(&mut stage), before.as_mut()].into_iter().flatten() {
            stage.create_events(self.plan.events, self.peers.is_some()).await?;
            stage.note_versions().await?;
        }
        for round in 1..=self.plan.rounds {
            for step in self.plan.round(round) {
                let picker = Picker::new(step.scenario.shape(), self.plan.events);
                let stage = match (step.who, &mut before) {
                    (Who::Before(_), Some(before)) => before,
                    _ => &mut stage,
                };
                self.measure(stage, step, round, picker).await?;
            }
        }
        for step in self.plan.overload() {
            self.measure(&mut stage, step, 1, Picker::Hot).await?;
        }
        for stage in [Some(stage), before].into_iter().flatten() {
            self.close(stage, (0..=self.plan.events).collect()).await?;
        }
        Ok(())
    }

    async fn tables(&mut self) -> Result<(), Failure> {
        let Some(fill) = self.plan.filled else { return Ok(()) };
        let database = stage::database(self.embedded, EMPTY, false).await?;
        let mut empty = Stage::start(self.embedded, database, self.server).await?;
        empty.create_events(self.plan.events, false).await?;
        empty.note_versions().await?;
        let database = stage::database(self.embedded, &fill.database(), true).await?;
        let mut filled = Stage::start(self.embedded, database, self.server).await?;
        fill.apply(&filled, &self.bar).await?;
        filled.note_versions().await?;

        let count = self.plan.events.min(fill.events());
        let stride = fill.events() / count;
        for round in 1..=self.plan.rounds {
            for step in self.plan.table_round(round) {
                let (stage, picker) = match step.scenario {
                    Scenario::Empty => (&mut empty, Picker::new(Shape::Uniform, count)),
                    // As many events as in the empty table, spread over the full one.
                    Scenario::Filled => (&mut filled, Picker::Uniform { count, stride }),
                    _ => (&mut filled, Picker::new(Shape::Uniform, fill.events())),
                };
                self.measure(stage, step, round, picker).await?;
            }
        }
        self.close(empty, (0..=self.plan.events).collect()).await?;
        self.close(filled, (0..count).map(|number| 1 + number * stride).collect()).await
    }

    /// Audits the events and stops the server.
    pub async fn close(&mut self, stage: Stage, numbers: Vec<u32>) -> Result<(), Failure> {
        self.verified.merge(verify::verify(&stage, numbers, &self.bar).await?);
        stage.server.stop().await
    }

    /// One measurement of a round, on this stage.
    pub async fn measure(&mut self, stage: &mut Stage, step: Step, round: u32, picker: Picker) -> Result<(), Failure> {
        let what = format!("{}, {}, {} at once", step.scenario.name(), step.who.name(), step.callers);
        let message = format!("round {round} of {}: {what}", self.plan.rounds);
        if self.bar.is_hidden() {
            eprintln!("{message}");
        }
        self.bar.set_message(message);
        // What comes right after the overload must meet what the overload left behind.
        if self.plan.checkpoints && step.scenario != Scenario::AfterOverload {
            stage.checkpoint().await?;
        }
        match step.who {
            Who::Peer(_) => self.measure_peer(stage, step, round).await,
            Who::Service(strategy) | Who::Before(strategy) => {
                self.measure_service(stage, step, strategy, round, picker).await
            }
        }
        .map_err(|error| format!("{what}: {error}"))?;
        self.bar.inc(self.plan.time_of(step).as_millis().try_into().unwrap_or(0));
        Ok(())
    }

    async fn measure_peer(&mut self, stage: &Stage, step: Step, round: u32) -> Result<(), Failure> {
        let (Who::Peer(peer), Some(peers)) = (step.who, &self.peers) else { return Ok(()) };
        let (warm_up, duration) = (self.plan.warm_up, self.plan.duration);
        let what = (peer, step.scenario.shape(), step.callers);
        let per_second = peers.run(stage, what, warm_up, duration).await?;
        let sample = Sample { round, per_second, ..Sample::default() };
        self.results.add(step, sample, &tally::new_histogram()?, &Default::default());
        Ok(())
    }

    /// How many arrivals a second a strategy gets in a scenario; None: its callers wait for answers.
    fn arrivals(&self, scenario: Scenario, strategy: pb::ExecutionStrategy) -> Result<Option<f64>, Failure> {
        let Some((base, factor)) = scenario.arrivals() else { return Ok(None) };
        let strategies = if scenario.has_one_rate() { &self.plan.strategies[..] } else { &[strategy] };
        let peaks = strategies.iter().map(|strategy| {
            // Two builds get the same arrivals, by what the older one can do.
            let who = if self.plan.compare { Who::Before(*strategy) } else { Who::Service(*strategy) };
            // In a round that goes backwards, of the rounds before.
            self.results.best(base, who).and_then(|best| best.rate()).map(|rate| rate.median)
        });
        let peaks: Option<Vec<f64>> = peaks.collect();
        let lowest = peaks.and_then(|peaks| peaks.into_iter().min_by(f64::total_cmp));
        Ok(Some(lowest.ok_or("its highest rate was not measured")? * factor))
    }

    async fn measure_service(
        &mut self,
        stage: &mut Stage,
        step: Step,
        strategy: pb::ExecutionStrategy,
        round: u32,
        picker: Picker,
    ) -> Result<(), Failure> {
        let arrivals = self.arrivals(step.scenario, strategy)?;
        self.seed = self.seed.wrapping_add(1 << 48);
        let load = Load {
            server: stage.server.address,
            bearer: stage.bearer.clone(),
            strategy,
            work: step.scenario.work(),
            picker,
            callers: step.callers,
            arrivals,
            warm_up: self.plan.warm_up,
            duration: self.plan.duration_of(step),
            request_ids: self.plan.request_ids,
            seed: self.seed,
        };
        let watchers = match step.scenario.watchers() {
            Some(count) => Some(Watchers::start(stage.server.address, event_id(0), count).await?),
            None => None,
        };
        let process = stage.server.process();
        machine::reset_peak_memory(process);
        let before = CpuTimes::now(process);
        let tally = load::run(&load).await?;
        let used = CpuTimes::now(process).zip(before);
        drop(watchers);
        stage.acknowledged += tally.acknowledged;
        stage.unknown += tally.unknown;
        let sample = Sample {
            round,
            per_second: tally.successes as f64 / load.duration.as_secs_f64(),
            offered_per_second: arrivals,
            latency_ms: Latency::of(&tally.latency),
            failures: tally.failures,
            attempts: (tally.successes > 0).then(|| tally.attempts as f64 / tally.successes as f64),
            cpu: used.map(|(after, before)| after.share_since(&before)),
            server_micros_per_call: used
                .and_then(|(after, before)| after.server_micros_per_call(&before, tally.acknowledged)),
            server_memory_bytes: machine::memory(process, "VmHWM"),
        };
        self.results.add(step, sample, &tally.latency, &tally.batches);
        Ok(())
    }
}

fn progress_bar(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:30} {percent:>3}%  {elapsed} of about {duration}  {msg}");
    let length = time.as_millis().try_into().unwrap_or(u64::MAX);
    let bar = ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
