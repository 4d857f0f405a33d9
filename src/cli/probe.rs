//! `reservd probe`: runs a concurrency test and prints its report.

use std::{sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::{call_error::failed, failure::Failure, target::Target};
use crate::{
    app::Database,
    config::Config,
    ops::Ledger,
    rpc::{
        diagnostics_service,
        pb::{
            self,
            diagnostics::{
                self, ConcurrencyTestReport, RunConcurrencyTestRequest,
                diagnostics_service_client::DiagnosticsServiceClient, run_concurrency_test_response::Update,
            },
        },
    },
    telemetry::metrics::Metrics,
};

/// The options of `reservd probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// The strategy of every operation
    #[arg(long, value_enum, default_value = "mixed")]
    strategy: StrategyChoice,
    /// The number of operations
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    operations: i32,
    /// The number of concurrent operations
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=512))]
    concurrency: i32,
    /// The capacity of the scratch event; 0: half of the operations
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=1_000_000))]
    capacity: i32,
    /// The operations
    #[arg(long, value_enum, default_value = "reserve")]
    workload: WorkloadChoice,
    /// Fail at once if the row is locked
    #[arg(long)]
    nowait: bool,
    /// Run on a server (which must allow it) instead of directly on the database
    #[arg(long)]
    remote: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StrategyChoice {
    Mixed,
    Pessimistic,
    Optimistic,
    Coalesced,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadChoice {
    Reserve,
    Life,
    Waitlist,
}

impl Probe {
    /// Runs the test.
    pub async fn run(self) -> Result<(), Failure> {
        let bar = progress_bar(self.operations);
        let report = if self.remote {
            self.run_remote(&bar).await?
        } else {
            self.run_local(self.target.settings().load()?, &bar).await?
        };
        bar.finish_and_clear();
        println!("{}", table(&report));
        for problem in &report.problems {
            println!("PROBLEM: {problem}");
        }
        if report.invariants_held { Ok(()) } else { Err("an invariant did not hold".into()) }
    }

    fn request(&self) -> RunConcurrencyTestRequest {
        let strategy = match self.strategy {
            StrategyChoice::Mixed => pb::ExecutionStrategy::Unspecified,
            StrategyChoice::Pessimistic => pb::ExecutionStrategy::Pessimistic,
            StrategyChoice::Optimistic => pb::ExecutionStrategy::Optimistic,
            StrategyChoice::Coalesced => pb::ExecutionStrategy::Coalesced,
        };
        let workload = match self.workload {
            WorkloadChoice::Reserve => diagnostics::Workload::Reserve,
            WorkloadChoice::Life => diagnostics::Workload::Life,
            WorkloadChoice::Waitlist => diagnostics::Workload::Waitlist,
        };
        RunConcurrencyTestRequest {
            strategy: strategy.into(),
            lock_wait: if self.nowait { pb::LockWait::Nowait } else { pb::LockWait::Wait }.into(),
            operation_count: self.operations,
            concurrency: self.concurrency,
            capacity: self.capacity,
            workload: workload.into(),
        }
    }

    async fn run_remote(&self, bar: &ProgressBar) -> Result<ConcurrencyTestReport, Failure> {
        let mut client = DiagnosticsServiceClient::new(self.target.connect_for_streams().await?);
        let mut updates = client.run_concurrency_test(self.request()).await.map_err(failed)?.into_inner();
        while let Some(response) = updates.message().await.map_err(failed)? {
            match response.update {
                Some(Update::Progress(progress)) => bar.set_position(u64::try_from(progress.done_count).unwrap_or(0)),
                Some(Update::Report(report)) => return Ok(report),
                None => {}
            }
        }
        Err("the server ended the test without a report".into())
    }

    async fn run_local(&self, config: Config, bar: &ProgressBar) -> Result<ConcurrencyTestReport, Failure> {
        let plan = diagnostics_service::plan(self.request()).map_err(failed)?;
        let database = Database::open(&config).await?;
        database.prepare(config.database.migrate, Duration::ZERO).await?;
        let ledger = Ledger::new(database.pool(&config), config.execution, config.watch, Arc::new(Metrics::new()));
        let (progress, mut done) = watch::channel(0);
        let shown = bar.clone();
        let follow = tokio::spawn(async move {
            while done.changed().await.is_ok() {
                shown.set_position(u64::from(*done.borrow_and_update()));
            }
        });
        let report = ledger.run_concurrency_test(plan, progress).await;
        follow.abort();
        ledger.pool().close().await;
        database.close().await;
        match diagnostics_service::report_message(&report?).update {
            Some(Update::Report(report)) => Ok(report),
            _ => Err("the test ended without a report".into()),
        }
    }
}

fn progress_bar(total: i32) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} operations, {per_sec}, {eta} to go");
    ProgressBar::new(u64::try_from(total).unwrap_or(0))
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn table(report: &ConcurrencyTestReport) -> Table {
    let span = |duration: Option<prost_types::Duration>| {
        let duration = Duration::try_from(duration.unwrap_or_default()).unwrap_or_default();
        format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
    };
    let latency = report.latency.unwrap_or_default();
    let mut refusals: Vec<_> = report.refusal_counts.iter().collect();
    refusals.sort();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    let mut row = |name: &str, value: String| {
        table.add_row([name, &value]);
    };
    row("event", report.event_id.clone());
    row("operations", report.operation_count.to_string());
    row("successes", report.success_count.to_string());
    for (reason, count) in refusals {
        row(&format!("  {reason}"), count.to_string());
    }
    row("version increments", report.version_increment_count.to_string());
    row("version conflicts", report.version_conflict_count.to_string());
    row("retries", report.retry_count.to_string());
    row("lock wait, total", span(report.lock_wait_duration_total));
    row("lock wait, longest", span(report.lock_wait_duration_max));
    row("latency p50", span(latency.p50));
    row("latency p90", span(latency.p90));
    row("latency p99", span(latency.p99));
    row("latency max", span(latency.max));
    row("elapsed", span(report.elapsed));
    row("invariants", if report.invariants_held { "held" } else { "VIOLATED" }.to_owned());
    table
}
