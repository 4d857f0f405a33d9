//! Connections: silent ones, and ones that open too many streams.

use crate::support::{
    Guarded, TestServer,
    http2::{self, DATA, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, RawConnection},
    reserve,
};

const GET_EVENT: &str = "/reservd.v1.EventService/GetEvent";
const RESERVE: &str = "/reservd.v1.ReservationService/Reserve";
/// Error codes of HTTP/2.
const REFUSED_STREAM: u32 = 0x7;
const ENHANCE_YOUR_CALM: u32 = 0xb;

#[tokio::test]
async fn a_connection_without_a_preface_is_closed() {
    let server = TestServer::with(&[("server.handshake_timeout", "200ms")]).await;
    for sent in [&b""[..], b"P", &PREFACE[..PREFACE.len() - 1]] {
        let mut connection = RawConnection::open(&server).await;
        connection.send(sent).await;
        connection.closed().await;
    }
    // A connection with a preface is not.
    server.event("e", 1).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_closed() {
    let settings = [("server.keepalive_interval", "1s"), ("server.keepalive_timeout", "100ms")];
    let server = TestServer::with(&settings).await;
    RawConnection::begin(&server).await.closed().await;
    server.event("e", 1).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_connection_gets_no_more_streams_than_the_limit() {
    let server = TestServer::with(&[("server.max_streams_per_connection", "4")]).await;
    let mut connection = RawConnection::begin(&server).await;
    // Calls whose messages never arrive: they stay open.
    let calls: Vec<u8> = (0..10).flat_map(|n| http2::call(2 * n + 1, RESERVE)).collect();
    connection.send(&calls).await;
    let mut refused = Vec::new();
    while refused.len() < 6 {
        let frame = crate::support::soon("streams are refused", connection.receive()).await.expect("it stays open");
        if frame.kind == RST_STREAM {
            assert_eq!(code(&frame.payload), REFUSED_STREAM);
            refused.push(frame.stream);
        }
    }
    assert_eq!(refused, [9, 11, 13, 15, 17, 19]);
    // Other connections are not affected.
    server.event("e", 1).await;
    drop(connection);
    server.check_and_stop().await;
}

/// CVE-2023-44487.
#[tokio::test]
async fn a_flood_of_streams_that_are_reset_at_once_ends_its_connection_only() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let mut connection = RawConnection::begin(&server).await;
    let reset = |stream: u32| http2::frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let flood: Vec<u8> =
        (0..2000).map(|n| 2 * n + 1).flat_map(|n| [http2::call(n, RESERVE), reset(n)].concat()).collect();
    connection.send(&flood).await;
    let frames = connection.closed().await;
    let last = frames.iter().rfind(|frame| frame.kind == GOAWAY);
    // If the flood filled the buffers of its own connection, the GOAWAY is lost.
    if let Some(last) = last {
        assert_eq!(code(&last.payload[4..]), ENHANCE_YOUR_CALM);
    }
    server.reservations().reserve(reserve("e", "ann")).await.expect("others are served");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_connection_ends_at_its_age_once_its_calls_are_finished() {
    let server = TestServer::with(&[("server.max_connection_age", "500ms")]).await;
    let mut connection = RawConnection::begin(&server).await;
    connection.send(&http2::call(1, GET_EVENT)).await;
    let mut frames = Vec::new();
    while !frames.iter().any(|frame: &http2::Frame| frame.kind == GOAWAY) {
        let frame = crate::support::soon("it is told to go", connection.receive()).await;
        frames.push(frame.expect("it stays open for its call"));
    }
    assert!(frames.iter().all(|frame| frame.kind != HEADERS), "nothing was asked yet");
    // `GetEventRequest` for an event that does not exist.
    connection.send(&http2::frame(DATA, END_STREAM, 1, &[0, 0, 0, 0, 3, 0x0a, 1, b'e'])).await;
    let rest = connection.closed().await;
    assert!(rest.iter().any(|frame| frame.kind == HEADERS && frame.stream == 1), "the call was answered");
    // Clients just connect again.
    server.event("e", 1).await;
    server.check_and_stop().await;
}

/// The rest of a call that was refused before its message arrived is not the client's mistake.
#[tokio::test]
async fn messages_that_arrive_after_their_calls_were_refused_close_no_connection() {
    const CALLS: u32 = 300;
    let guarded = Guarded::start().await;
    let mut connection = RawConnection::begin(&guarded.server).await;
    let ids = || (0..CALLS).map(|n| 2 * n + 1);
    let calls: Vec<u8> = ids().flat_map(|id| http2::call(id, RESERVE)).collect();
    connection.send(&calls).await;
    let mut answered = 0;
    while answered < CALLS {
        let frame = crate::support::soon("every call is answered", connection.receive()).await.expect("it stays open");
        answered += u32::from(frame.kind == HEADERS);
        assert_ne!(frame.kind, RST_STREAM, "the rest of a message is waited for");
    }
    let messages: Vec<u8> = ids().flat_map(|id| http2::frame(DATA, END_STREAM, id, &[0; 5])).collect();
    connection.send(&messages).await;
    connection.send(&http2::call(2 * CALLS + 1, RESERVE)).await;
    loop {
        let frame = crate::support::soon("the next call is answered", connection.receive()).await;
        let frame = frame.expect("the connection stays open");
        assert_ne!(frame.kind, GOAWAY, "the client made no mistake");
        if frame.kind == HEADERS {
            break;
        }
    }
    drop(connection);
    guarded.check_and_stop().await;
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
}
