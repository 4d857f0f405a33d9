//! Spans: the real program sends them to a collector of the test.

use std::{collections::BTreeSet, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reservd::rpc::pb::{
    self, event_service_client::EventServiceClient, reservation_service_client::ReservationServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{Collector, TestDatabase, process::logged, reserve, soon, with};

/// Starts the program, and returns its address.
async fn start(database: &TestDatabase, collector: &str) -> (Child, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_reservd"))
        .args(["serve", "--listen", "127.0.0.1:0", "--set", "server.metrics_listen="])
        .env("DATABASE_URL", &database.url)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(program.stderr.take().expect("it is piped")).lines();
    let address = soon("the program serves", async {
        loop {
            let line = lines.next_line().await.expect("it is text").expect("it says where before it ends");
            if let Some(fields) = logged(&line, "reservd serves") {
                break format!("http://{}", fields["address"].as_str().expect("an address"));
            }
        }
    })
    .await;
    // Its further output is read and dropped, so that it is never blocked.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (program, address)
}

#[tokio::test]
async fn a_call_continues_its_callers_trace_down_to_the_transaction() {
    let collector = Collector::default();
    let database = TestDatabase::new().await;
    let (mut program, address) = start(&database, &collector.listen().await).await;
    let channel = Channel::from_shared(address).expect("a valid URL").connect().await.expect("it serves");

    let event = pb::Event { event_id: "e".into(), capacity: 5, ..Default::default() };
    let request = pb::CreateEventRequest { event: Some(event), ..Default::default() };
    EventServiceClient::new(channel.clone()).create_event(request).await.expect("created");
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    // A batch has many callers, so its span has no parent.
    let alone = pb::ReserveRequest { options: with(pb::ExecutionStrategy::Pessimistic), ..reserve("e", "ann") };
    let mut request = Request::new(alone);
    let context = format!("00-{trace}-{parent}-01").parse().expect("a header's value");
    request.metadata_mut().insert("traceparent", context);
    ReservationServiceClient::new(channel.clone()).reserve(request).await.expect("there is room");
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect("it answers");

    // The program sends its last spans when it stops.
    let pid = i32::try_from(program.id().expect("it runs")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is there");
    let status = soon("the program stops", program.wait()).await.expect("it was started");
    assert!(status.success(), "{status}");

    let spans = collector.spans.lock().expect("no task panics with it").clone();
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).cloned().collect();
        assert_eq!(found.len(), 1, "{name}: {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        found[0].clone()
    };
    let rpc = named("reservd.v1.ReservationService/Reserve");
    assert_eq!((hex(&rpc.trace_id), hex(&rpc.parent_span_id)), (trace.into(), parent.into()));
    assert_eq!(rpc.kind(), SpanKind::Server);
    assert!(
        rpc.attributes.iter().any(|pair| pair.key == "code" && format!("{:?}", pair.value).contains("\"OK\"")),
        "{rpc:?}"
    );
    let transaction = named("reserve");
    assert_eq!((&transaction.trace_id, &transaction.parent_span_id), (&rpc.trace_id, &rpc.span_id));
    assert!(transaction.attributes.iter().any(|pair| pair.key == "outcome"), "{transaction:?}");
    // Without a caller's context a call begins a trace; health checks have no span.
    let created = named("reservd.v1.EventService/CreateEvent");
    assert!(created.parent_span_id.is_empty() && created.trace_id != rpc.trace_id, "{created:?}");
    assert!(spans.iter().all(|span| !span.name.contains("health")), "{spans:?}");
}

#[tokio::test]
async fn spans_say_which_service_version_and_instance_they_are_from() {
    let (collector, database) = (Collector::default(), TestDatabase::new().await);
    let endpoint = collector.listen().await;
    for _ in 0..2 {
        let (mut program, address) = start(&database, &endpoint).await;
        let channel = Channel::from_shared(address).expect("a valid URL").connect().await.expect("it serves");
        EventServiceClient::new(channel).list_events(pb::ListEventsRequest::default()).await.expect("it answers");
        let pid = i32::try_from(program.id().expect("it runs")).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is there");
        soon("the program stops", program.wait()).await.expect("it was started");
    }
    let resources = collector.resources.lock().expect("no task panics with it").clone();
    let all = |key: &str| -> BTreeSet<String> {
        let attributes = resources.iter().flat_map(|resource| &resource.attributes);
        attributes.filter(|pair| pair.key == key).map(|pair| format!("{:?}", pair.value)).collect()
    };
    let only = |key: &str, text: &str| all(key).len() == 1 && all(key).iter().all(|value| value.contains(text));
    assert!(only("service.name", "\"reservd\"") && only("service.version", env!("CARGO_PKG_VERSION")), "{resources:?}");
    assert_eq!(all("service.instance.id").len(), 2, "{resources:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
