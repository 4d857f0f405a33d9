//! The metrics endpoint, as Prometheus reads it.

use reservd::rpc::pb::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{STRATEGIES, TestServer, eventually, of_user, raw_call, reserve, soon, with};

/// The answer to a GET of `path` on the metrics port: the head and the body.
pub(super) async fn get(server: &TestServer, path: &str) -> (String, String) {
    let address = server.app.metrics_address.expect("metrics are served");
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// The sample of this name with these labels.
fn sample(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let wanted = format!("{name}{labels} ");
    text.lines().find_map(|line| line.strip_prefix(&wanted)).map(|value| value.parse().expect("a number"))
}

#[tokio::test]
async fn metrics_count_calls_outcomes_conflicts_waits_and_connections() {
    let server = TestServer::start().await;
    server.event("e", 4).await;
    let mut client = server.reservations();
    for strategy in STRATEGIES {
        let user = strategy.as_str_name();
        let request = ReserveRequest { request_id: user.into(), options: with(strategy), ..reserve("e", user) };
        client.reserve(request.clone()).await.expect("there is room");
        client.reserve(request).await.expect("replayed");
        let too_many = ReserveRequest { quantity: 9, options: with(strategy), ..reserve("e", "eve") };
        client.reserve(too_many).await.expect_err("too many");
    }
    client
        .get_reservation(GetReservationRequest { event_id: "e".into(), reservation: of_user("eve") })
        .await
        .expect_err("no");

    // A command that is overtaken between its read and its write, and then succeeds.
    let row = server.hold_row("e").await;
    let mut first = server.reservations();
    let cancel = CancelRequest {
        event_id: "e".into(),
        reservation: of_user("EXECUTION_STRATEGY_OPTIMISTIC"),
        options: with(ExecutionStrategy::Pessimistic),
        ..Default::default()
    };
    let first = tokio::spawn(async move { first.cancel(cancel).await });
    server.waiting(1).await;
    let mut second = server.reservations();
    let request = ReserveRequest { options: with(ExecutionStrategy::Optimistic), ..reserve("e", "late") };
    let second = tokio::spawn(async move { second.reserve(request).await });
    server.waiting(2).await;
    row.release().await;
    first.await.expect("it ran").expect("cancelled");
    second.await.expect("it ran").expect("there is room");

    let (head, text) = get(&server, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let of = |name: &str, labels: &[(&str, &str)]| {
        sample(&text, name, labels).unwrap_or_else(|| panic!("{name} {labels:?}: {text}"))
    };
    let reserve = "reservd.v1.ReservationService/Reserve";
    assert_eq!(of("reservd_rpcs_total", &[("code", "OK"), ("method", reserve)]), 7.0);
    assert_eq!(of("reservd_rpcs_total", &[("code", "FAILED_PRECONDITION"), ("method", reserve)]), 3.0);
    let get_one = "reservd.v1.ReservationService/GetReservation";
    assert_eq!(of("reservd_rpcs_total", &[("code", "NOT_FOUND"), ("method", get_one)]), 1.0);
    assert_eq!(of("reservd_rpc_duration_seconds_count", &[("method", reserve)]), 10.0);
    assert_eq!(of("reservd_rpcs_in_flight", &[]), 0.0);
    for (strategy, ok) in [("PESSIMISTIC", 1.0), ("OPTIMISTIC", 2.0), ("COALESCED", 1.0)] {
        let outcome = |outcome| [("operation", "reserve"), ("outcome", outcome), ("strategy", strategy)];
        assert_eq!(of("reservd_outcomes_total", &outcome("ok")), ok);
        assert_eq!(of("reservd_outcomes_total", &outcome("replayed")), 1.0);
        assert_eq!(of("reservd_outcomes_total", &outcome("SOLD_OUT")), 1.0);
    }
    assert_eq!(of("reservd_version_conflicts_total", &[("operation", "reserve")]), 1.0);
    assert_eq!(of("reservd_retries_total", &[("operation", "reserve"), ("strategy", "OPTIMISTIC")]), 1.0);
    assert_eq!(of("reservd_retries_total", &[("operation", "reserve"), ("strategy", "PESSIMISTIC")]), 0.0);
    assert_eq!(of("reservd_lock_wait_seconds_count", &[("operation", "cancel")]), 1.0);
    assert!(of("reservd_lock_wait_seconds_sum", &[("operation", "cancel")]) > 0.0);
    assert_eq!(of("reservd_pool_connections_max", &[]), 16.0);
    assert!(of("reservd_pool_connections_in_use", &[]) <= 16.0);
    assert!(get(&server, "/").await.0.starts_with("HTTP/1.1 404"));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_caller_cannot_invent_metrics() {
    let server = TestServer::start().await;
    for path in ["/made.up.Service/Method", "/reservd.v1.EventService/MadeUp", "/made_up"] {
        raw_call(server.channel(), path, Vec::new()).await.expect_err("there is no such method");
    }
    let (_, text) = get(&server, "/metrics").await;
    assert_eq!(sample(&text, "reservd_rpcs_total", &[("code", "UNIMPLEMENTED"), ("method", "other")]), Some(3.0));
    assert!(!text.to_lowercase().contains("made"), "{text}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_backlog_of_expiry_is_gauged() {
    let server = TestServer::with(&[("expiry.interval", "1h")]).await;
    server.event("e", 9).await;
    for user in ["ann", "bob"] {
        server.reservations().reserve(reserve("e", user)).await.expect("there is room");
    }
    server.lapse_holds("e").await;
    eventually("the gauges are brought up to date", async || {
        let (_, text) = get(&server, "/metrics").await;
        sample(&text, "reservd_expiry_backlog", &[]) == Some(2.0)
            && sample(&text, "reservd_expiry_lag_seconds", &[]) >= Some(1.0)
    })
    .await;
    server.check_and_stop().await;
}

/// A scrape that is begun and not finished.
const HALF: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: ";

/// A connection to the metrics from this address of this machine.
async fn connect_from(server: &TestServer, address: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address, 0).into()).expect("an address of this machine");
    socket.connect(server.app.metrics_address.expect("metrics are served")).await.expect("the port is open")
}

#[tokio::test]
async fn half_requests_take_few_connections_for_a_short_time() {
    let server = TestServer::start().await;
    let mut attackers = Vec::new();
    for _ in 0..100 {
        let mut stream = connect_from(&server, [127, 0, 0, 2]).await;
        // An error: it is already closed.
        let _ = stream.write_all(HALF).await;
        attackers.push(stream);
    }
    // Others are served meanwhile.
    assert!(get(&server, "/metrics").await.0.starts_with("HTTP/1.1 200"));
    let refused = "reservd_connections_refused_total{why=\"too_many_of_address\"}";
    assert!(server.metric(refused).await >= 50.0, "{} refused", server.metric(refused).await);
    for mut stream in attackers {
        let mut rest = Vec::new();
        // An end or a reset.
        let _ = soon("half a request is given up", stream.read_to_end(&mut rest)).await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn half_requests_from_many_addresses_leave_file_descriptors() {
    let server = TestServer::start().await;
    let mut attackers = Vec::new();
    for place in 0..100 {
        let mut stream = connect_from(&server, [127, 0, 1, place]).await;
        let _ = stream.write_all(HALF).await;
        attackers.push(stream);
    }
    let refused = "reservd_connections_refused_total{why=\"too_many\"}";
    eventually("no more than 32 are accepted", async || server.metric(refused).await == 68.0).await;
    server.event("e", 1).await;
    server.check_and_stop().await;
}
