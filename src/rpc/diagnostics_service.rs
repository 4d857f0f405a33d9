//! DiagnosticsService: a concurrency test as a stream of progress, then the report.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    decode, encode,
    fields::Fields,
    pb::{
        self,
        diagnostics::{self, diagnostics_service_server::DiagnosticsService, run_concurrency_test_response::Update},
    },
    status::{self, About},
};
use crate::{
    config,
    ops::{
        Ledger,
        concurrency_test::{Plan, Report, Workload},
    },
};

/// The service.
pub struct Diagnostics {
    ledger: Ledger,
    settings: config::Diagnostics,
    /// One test at a time: two would disturb each other's results.
    running: Arc<Semaphore>,
}

impl Diagnostics {
    pub fn new(ledger: Ledger, settings: config::Diagnostics) -> Self {
        Self { ledger, settings, running: Arc::new(Semaphore::new(1)) }
    }
}

#[tonic::async_trait]
impl DiagnosticsService for Diagnostics {
    type RunConcurrencyTestStream = ReceiverStream<Result<diagnostics::RunConcurrencyTestResponse, Status>>;

    async fn run_concurrency_test(
        &self,
        request: Request<diagnostics::RunConcurrencyTestRequest>,
    ) -> Result<Response<Self::RunConcurrencyTestStream>, Status> {
        let plan = plan(request.into_inner())?;
        if !self.settings.concurrency_test {
            return Err(status::diagnostics_disabled());
        }
        let permit = Arc::clone(&self.running).try_acquire_owned();
        let permit = permit.map_err(|_| status::overloaded("another concurrency test is running"))?;
        let (sender, receiver) = mpsc::channel(4);
        let ledger = self.ledger.clone();
        tokio::spawn(async move {
            let _permit = permit;
            run(ledger, plan, sender).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_contention_report(
        &self,
        request: Request<diagnostics::GetContentionReportRequest>,
    ) -> Result<Response<diagnostics::GetContentionReportResponse>, Status> {
        let (window, limit) = report_bounds(&request.into_inner())?;
        let events = self.ledger.contention(window, limit).iter().map(encode::contention).collect();
        Ok(Response::new(diagnostics::GetContentionReportResponse { events }))
    }
}

fn report_bounds(m: &diagnostics::GetContentionReportRequest) -> Result<(Duration, usize), Status> {
    let mut fields = Fields::default();
    let window = fields.span("window", m.window, &(Duration::from_secs(1)..=Duration::from_secs(600)));
    let limit = fields.number_or_zero("limit", m.limit, &(1..=1000));
    let bounds = || Some((window?.unwrap_or(Duration::from_secs(60)), limit?.unwrap_or(10) as usize));
    let bounds = bounds();
    fields.finish(bounds)
}

type Sender = mpsc::Sender<Result<diagnostics::RunConcurrencyTestResponse, Status>>;

/// Runs the test. It ends early when the caller hangs up, since nothing receives its progress then.
async fn run(ledger: Ledger, plan: Plan, sender: Sender) {
    let (progress, done) = watch::channel(0);
    let test = ledger.run_concurrency_test(plan, progress);
    let (report, ()) = tokio::join!(test, follow(done, plan.operations, sender.clone()));
    let last = report.map(|report| report_message(&report)).map_err(|error| status::of(&error, &About::default()));
    // An error means that the caller has hung up.
    let _ = sender.send(last).await;
}

/// Sends the progress of a test until it ends or its caller hangs up.
async fn follow(mut done: watch::Receiver<u32>, total: u32, sender: Sender) {
    while done.changed().await.is_ok() {
        let done = *done.borrow_and_update();
        if sender.send(Ok(progress_message(done, total))).await.is_err() {
            return;
        }
    }
}

/// The test that a request asks for.
pub fn plan(m: diagnostics::RunConcurrencyTestRequest) -> Result<Plan, Status> {
    let mut fields = Fields::default();
    let strategy = match m.strategy {
        0 => Some(None),
        other => fields.known::<pb::ExecutionStrategy>("strategy", other).map(|known| Some(decode::strategy_of(known))),
    };
    let lock_wait = match m.lock_wait {
        0 => Some(pb::LockWait::Wait),
        other => fields.known::<pb::LockWait>("lock_wait", other),
    };
    let workload = match m.workload {
        0 => Some(diagnostics::Workload::Reserve),
        other => fields.known::<diagnostics::Workload>("workload", other),
    };
    let operations = fields.number_or_zero("operation_count", m.operation_count, &(1..=100_000));
    let concurrency = fields.number_or_zero("concurrency", m.concurrency, &(1..=512));
    let capacity = fields.number_or_zero("capacity", m.capacity, &(1..=1_000_000));
    let all = || {
        let operations = operations?.unwrap_or(1000);
        Some(Plan {
            strategy: strategy?,
            lock_wait: decode::lock_wait_of(lock_wait?),
            operations,
            concurrency: concurrency?.unwrap_or(32),
            capacity: capacity?.unwrap_or(operations.div_ceil(2)),
            workload: match workload? {
                diagnostics::Workload::Life => Workload::Life,
                diagnostics::Workload::Waitlist => Workload::Waitlist,
                diagnostics::Workload::Reserve | diagnostics::Workload::Unspecified => Workload::Reserve,
            },
        })
    };
    let all = all();
    fields.finish(all)
}

/// The progress of a test.
pub fn progress_message(done: u32, total: u32) -> diagnostics::RunConcurrencyTestResponse {
    let progress =
        diagnostics::ConcurrencyTestProgress { done_count: done.cast_signed(), total_count: total.cast_signed() };
    diagnostics::RunConcurrencyTestResponse { update: Some(Update::Progress(progress)) }
}

/// The report of a test.
pub fn report_message(report: &Report) -> diagnostics::RunConcurrencyTestResponse {
    let tally = &report.tally;
    let micros = |value| Some(encode::duration(Duration::from_micros(value)));
    let report = diagnostics::ConcurrencyTestReport {
        event_id: report.event_id.to_string(),
        operation_count: tally.operations.cast_signed(),
        success_count: tally.successes.cast_signed(),
        refusal_counts: tally.refusals.iter().map(|(reason, n)| ((*reason).to_owned(), n.cast_signed())).collect(),
        version_conflict_count: tally.conflicts.cast_signed(),
        retry_count: tally.retries.cast_signed(),
        lock_wait_duration_total: Some(encode::duration(tally.lock_wait.0)),
        lock_wait_duration_max: Some(encode::duration(tally.lock_wait.1)),
        version_increment_count: report.version_increments,
        latency: Some(diagnostics::LatencySummary {
            p50: micros(tally.latency.value_at_quantile(0.5)),
            p90: micros(tally.latency.value_at_quantile(0.9)),
            p99: micros(tally.latency.value_at_quantile(0.99)),
            max: micros(tally.latency.max()),
        }),
        elapsed: Some(encode::duration(report.elapsed)),
        invariants_held: report.problems.is_empty(),
        problems: report.problems.clone(),
    };
    diagnostics::RunConcurrencyTestResponse { update: Some(Update::Report(report)) }
}
