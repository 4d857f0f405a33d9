//! Tests of `preface_timeout`.

use tokio::io::{AsyncWriteExt, duplex};

use super::*;

#[tokio::test]
async fn what_was_read_is_replayed() {
    for sent in [&[PREFACE, b"more"].concat()[..], b"GET / HTTP/1.1"] {
        let (mut client, server) = duplex(64);
        client.write_all(sent).await.expect("there is room");
        let mut stream = await_preface(server, Duration::from_secs(60)).await.expect("it has begun");
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received).await.expect("all of it");
        assert_eq!(received, sent);
    }
}

#[tokio::test]
async fn a_silent_or_closed_connection_fails() {
    let (mut client, server) = duplex(64);
    client.write_all(&PREFACE[..10]).await.expect("there is room");
    let late = await_preface(server, Duration::from_millis(10)).await.expect_err("it is late");
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let (_, server) = duplex(64);
    let closed = await_preface(server, Duration::from_secs(60)).await.expect_err("it is closed");
    assert_eq!(closed.kind(), ErrorKind::UnexpectedEof);
}
