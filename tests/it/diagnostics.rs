//! RunConcurrencyTest: its report is right; one test runs at a time, with bounds, and it ends with its caller.

use reservd::rpc::pb::{
    self,
    diagnostics::{run_concurrency_test_response::Update, *},
    *,
};
use tonic::{Code, Streaming};

use crate::support::{TestServer, assert_refused, eventually};

async fn run(server: &TestServer, request: RunConcurrencyTestRequest) -> Streaming<RunConcurrencyTestResponse> {
    server.diagnostics().run_concurrency_test(request).await.expect("it starts").into_inner()
}

/// Reads a test to its end, and checks that progress never goes back and the report comes last.
async fn report(mut stream: Streaming<RunConcurrencyTestResponse>, operations: i32) -> ConcurrencyTestReport {
    let mut done = 0;
    let report = loop {
        match stream.message().await.expect("it goes on").expect("it ends with a report").update.expect("an update") {
            Update::Progress(progress) => {
                assert_eq!(progress.total_count, operations);
                assert!(
                    done <= progress.done_count && progress.done_count <= operations,
                    "{done}, then {}",
                    progress.done_count
                );
                done = progress.done_count;
            }
            Update::Report(report) => break report,
        }
    };
    assert_eq!(stream.message().await.expect("it ends in order"), None, "nothing follows the report");
    report
}

fn sum(report: &ConcurrencyTestReport) -> i32 {
    report.success_count + report.refusal_counts.values().sum::<i32>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_of_every_strategy_and_workload_add_up() {
    use pb::ExecutionStrategy::{Coalesced, Optimistic, Pessimistic, Unspecified};
    let server = TestServer::start().await;
    for strategy in [Pessimistic, Optimistic, Coalesced, Unspecified] {
        for workload in [Workload::Reserve, Workload::Life] {
            let request = RunConcurrencyTestRequest {
                strategy: strategy.into(),
                workload: workload.into(),
                operation_count: 120,
                concurrency: 8,
                capacity: 50,
                ..Default::default()
            };
            let report = report(run(&server, request).await, 120).await;
            let said = format!("{strategy:?} {workload:?}: {report:?}");
            assert_eq!((report.operation_count, sum(&report)), (120, 120), "{said}");
            assert!(report.invariants_held && report.problems.is_empty(), "{said}");
            assert_eq!(report.version_increment_count, i64::from(report.success_count), "{said}");
            let latency = report.latency.expect("latencies");
            let order = [latency.p50, latency.p90, latency.p99, latency.max].map(|span| {
                let span = span.expect("a span");
                (span.seconds, span.nanos)
            });
            assert!(order.is_sorted() && order[0] > (0, 0), "{said}");
            let of = |reason: &str| report.refusal_counts.get(reason).copied().unwrap_or_default();
            match (workload, strategy) {
                // Each operation is a user of its own: as many succeed as there are units.
                (Workload::Reserve, Pessimistic | Coalesced) => {
                    assert_eq!((report.success_count, of("SOLD_OUT")), (50, 70), "{said}")
                }
                (Workload::Reserve, _) => assert!(report.success_count <= 50, "{said}"),
                _ => assert!(of("ALREADY_RESERVED") > 0, "{said}"),
            }
            match strategy {
                Pessimistic | Coalesced => {
                    assert_eq!((report.version_conflict_count, report.retry_count), (0, 0), "{said}")
                }
                Optimistic => assert!(report.retry_count <= report.version_conflict_count, "{said}"),
                _ => {}
            }
            // The scratch event stays, cancelled, as a record.
            let event = server.get_event(&report.event_id).await;
            assert_eq!(
                (event.state(), event.counts.unwrap_or_default().held, event.counts.unwrap_or_default().confirmed),
                (EventState::Cancelled, 0, 0)
            );
        }
    }
    server.check_and_stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_wait_for_each_others_places_leave_right_counters() {
    use pb::ExecutionStrategy::{Coalesced, Optimistic, Pessimistic, Unspecified};
    let server = TestServer::start().await;
    let mut served = 0;
    for strategy in [Pessimistic, Optimistic, Coalesced, Unspecified] {
        let request = RunConcurrencyTestRequest {
            strategy: strategy.into(),
            workload: Workload::Waitlist.into(),
            operation_count: 160,
            concurrency: 8,
            capacity: 2,
            ..Default::default()
        };
        let report = report(run(&server, request).await, 160).await;
        let said = format!("{strategy:?}: {report:?}");
        assert!(report.invariants_held && report.problems.is_empty(), "{said}");
        let promoted = server.promoted(&report.event_id).await.len();
        served += promoted;
        assert_eq!(report.version_increment_count, i64::from(report.success_count) + promoted as i64, "{said}");
    }
    assert!(served > 0, "users waited");
    server.check_and_stop().await;
}

#[tokio::test]
async fn unset_fields_take_the_documented_defaults() {
    let server = TestServer::start().await;
    let report = report(run(&server, RunConcurrencyTestRequest::default()).await, 1000).await;
    assert_eq!((report.operation_count, report.success_count <= 500), (1000, true));
    server.check_and_stop().await;
}

/// The scratch events of running tests, with their versions.
async fn scratch(server: &TestServer) -> Vec<pb::Event> {
    let request = ListEventsRequest { series_id: "reservd-concurrency-test".into(), ..Default::default() };
    server.events().list_events(request).await.expect("a page").into_inner().events
}

#[tokio::test]
async fn one_runs_at_a_time_and_a_caller_that_leaves_ends_it() {
    let server = TestServer::start().await;
    let endless =
        RunConcurrencyTestRequest { operation_count: 100_000, concurrency: 4, capacity: 100_000, ..Default::default() };
    let mut stream = run(&server, endless).await;
    stream.message().await.expect("it goes on").expect("progress comes first");
    let status = server.diagnostics().run_concurrency_test(endless).await.map(drop);
    assert_refused(status, Code::ResourceExhausted, "OVERLOADED");
    drop(stream);

    let small = RunConcurrencyTestRequest { operation_count: 1, ..Default::default() };
    eventually("the next may run", async || server.diagnostics().run_concurrency_test(small).await.is_ok()).await;
    // No operation of the abandoned test goes on: its event does not change any more.
    let (mut before, mut still) = (Vec::new(), 0);
    eventually("the operations have ended", async || {
        let now: Vec<i64> = scratch(&server).await.iter().map(|event| event.version).collect();
        still = if now == before { still + 1 } else { 0 };
        before = now;
        still == 40
    })
    .await;
    let begun = scratch(&server).await.iter().map(|event| event.version).max().expect("there are two");
    assert!(begun < 50_000, "{begun} versions");
    server.check_and_stop().await;
}
