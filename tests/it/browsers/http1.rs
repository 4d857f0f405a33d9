//! HTTP/1.1 on gRPC's port: a sentence where it is not served, and its bounds where it is.

use prost::Message;
use reservd::rpc::pb;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{TestServer, eventually, soon};

const ORIGIN: (&str, &str) = ("web.allowed_origins", "[\"https://shop.example\"]");
const LIST_EVENTS: &str = "/reservd.v1.EventService/ListEvents";

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.app.address).await.expect("the server listens")
}

/// Sends this, and reads until the server closes the connection.
async fn exchange(server: &TestServer, request: &[u8]) -> String {
    let mut stream = connect(server).await;
    stream.write_all(request).await.expect("it listens");
    rest(stream).await
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // An error: a reset, after what was read.
    let _ = soon("the server closes the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A call by gRPC-Web.
fn call(path: &str, headers: &str, message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: {}\r\n{headers}\r\n",
        message.len() + 5
    );
    [head.as_bytes(), &[0], &length, &message].concat()
}

#[tokio::test]
async fn http_1_gets_a_sentence() {
    let server = TestServer::start().await;
    for request in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "PRIVATE nonsense\r\n\r\n"] {
        let answer = exchange(&server, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.starts_with("HTTP/1.1 505 HTTP Version Not Supported\r\n") && body.contains("web.allowed_origins"),
            "{answer}"
        );
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())) || head.ends_with(&body.len().to_string())
        );
    }
    // A large request does not lose it.
    let large = [b"POST / HTTP/1.1\r\ncontent-length: 50000\r\n\r\n".as_slice(), &[b'x'; 50_000]].concat();
    assert!(exchange(&server, &large).await.contains("web.allowed_origins"));
    server.event("e", 1).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn what_is_not_grpc_web_gets_a_sentence_where_browsers_are_served() {
    let server = TestServer::with(&[ORIGIN]).await;
    for headers in ["", "content-type: application/json\r\n", "content-type: application/grpc-web-text\r\n"] {
        let request = format!("POST {LIST_EVENTS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("application/grpc-web+proto"), "{answer}");
    }
    let text = "accept: application/grpc-web-text\r\nconnection: close\r\n";
    let answer = exchange(&server, &call(LIST_EVENTS, text, &pb::ListEventsRequest::default())).await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    let binary = call(LIST_EVENTS, "connection: close\r\n", &pb::ListEventsRequest::default());
    let answer = exchange(&server, &binary).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("grpc-status:0"), "{answer}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_preflight_names_the_origins_of_the_setting_only() {
    let server = TestServer::with(&[ORIGIN]).await;
    for (origin, is_allowed) in [("https://shop.example", true), ("https://shop.example.evil", false), ("null", false)]
    {
        let request = format!(
            "OPTIONS {LIST_EVENTS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n\r\n"
        );
        let answer = exchange(&server, request.as_bytes()).await;
        let allows = answer.contains(&format!("access-control-allow-origin: {origin}\r\n"));
        assert_eq!(allows, is_allowed, "{origin}: {answer}");
        assert!(!answer.contains("access-control-allow-credentials"), "{answer}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_header_and_a_message_have_to_arrive_in_time() {
    let limits = [ORIGIN, ("server.handshake_timeout", "200ms"), ("server.message_timeout", "200ms")];
    let server = TestServer::with(&limits).await;
    let half = format!("POST {LIST_EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\n");
    assert_eq!(exchange(&server, half.as_bytes()).await, "", "half a header is no call");
    let mut whole = call(LIST_EVENTS, "connection: close\r\n", &pb::ListEventsRequest::default());
    whole.truncate(whole.len() - 1);
    let answer = exchange(&server, &whole).await;
    assert!(answer.contains("grpc-status: 4") && answer.contains("message"), "{answer}");
    // Between two requests as well.
    let answer = exchange(&server, &call(LIST_EVENTS, "", &pb::ListEventsRequest::default())).await;
    assert!(answer.contains("grpc-status:0"), "{answer}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_header_and_a_message_have_a_longest_length() {
    let server = TestServer::with(&[ORIGIN, ("server.max_request_bytes", "1024")]).await;
    let header = format!("x-long: {}\r\n", "x".repeat(40_000));
    let answer = exchange(&server, &call(LIST_EVENTS, &header, &pb::ListEventsRequest::default())).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = pb::ListEventsRequest { page_token: "x".repeat(60_000), ..Default::default() };
    let answer = exchange(&server, &call(LIST_EVENTS, "connection: close\r\n", &long)).await;
    assert!(answer.contains("MESSAGE_TOO_LARGE") || answer.contains("grpc-status: 8"), "{answer}");
    server.check_and_stop().await;
}

/// Answers that are not read fill the buffers of the system, and then wait.
#[tokio::test]
async fn a_client_that_reads_nothing_loses_its_connection() {
    const CALLS: usize = 300;
    let server = TestServer::with(&[ORIGIN, ("server.response_timeout", "300ms")]).await;
    let named = |n: usize| {
        let event =
            pb::Event { event_id: format!("e-{n}"), capacity: 1, display_name: "x".repeat(200), ..Default::default() };
        pb::CreateEventRequest { event: Some(event), ..Default::default() }
    };
    let requests = (0..300).map(named).collect();
    let batch = pb::BatchCreateEventsRequest { requests, ..Default::default() };
    server.events().batch_create_events(batch).await.expect("created");
    let mut stream = connect(&server).await;
    let one = call(LIST_EVENTS, "", &pb::ListEventsRequest { page_size: 300, ..Default::default() });
    stream.write_all(&one.repeat(CALLS)).await.expect("the calls fit into a buffer");
    let closed = "reservd_connections_closed_total{why=\"too_slow\"}";
    eventually("the client is given up", async || server.metric(closed).await == 1.0).await;
    let answers = rest(stream).await.matches("HTTP/1.1 200 OK").count();
    assert!(answers > 0 && answers < CALLS, "{answers} of {CALLS}");
    server.check_and_stop().await;
}

/// Answers without a message count for nothing, and still have to be read.
#[tokio::test]
async fn a_client_that_reads_no_preflights_loses_its_connection() {
    let server = TestServer::with(&[ORIGIN, ("server.response_timeout", "300ms")]).await;
    let (mut unread, mut sender) = connect(&server).await.into_split();
    let preflight = format!(
        "OPTIONS {LIST_EVENTS} HTTP/1.1\r\nhost: x\r\norigin: https://shop.example\r\naccess-control-request-method: POST\r\n\r\n"
    );
    // An error: the connection is closed meanwhile.
    let sending = tokio::spawn(async move { sender.write_all(preflight.repeat(100_000).as_bytes()).await });
    let closed = "reservd_connections_closed_total{why=\"too_slow\"}";
    eventually("the client is given up", async || server.metric(closed).await == 1.0).await;
    let _ = soon("the connection is closed", unread.read_to_end(&mut Vec::new())).await;
    let _ = soon("nothing more is sent", sending).await;
    server.check_and_stop().await;
}
