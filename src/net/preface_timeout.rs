//! A time limit for the client's HTTP/2 preface. A connection that opens and stays silent, or stops inside the
//! preface, would otherwise live for ever: HTTP/2's own pings begin only after it.

use std::{
    io::{Cursor, Error, ErrorKind, Result},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, Chain},
    time::timeout,
};

/// The bytes that every HTTP/2 client begins with.
/// Source: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that replays the bytes read from it so far.
pub type Replayed<T> = Chain<Cursor<Vec<u8>>, T>;

/// Waits for the preface. Other bytes are passed on at once: HTTP/2 answers them.
pub async fn await_preface<T: AsyncRead + Unpin>(mut stream: T, limit: Duration) -> Result<Replayed<T>> {
    let mut received = Vec::with_capacity(PREFACE.len());
    timeout(limit, async {
        while received.len() < PREFACE.len() && PREFACE.starts_with(&received) {
            if stream.read_buf(&mut received).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<_, Error>(())
    })
    .await??;
    Ok(Cursor::new(received).chain(stream))
}

#[cfg(test)]
mod tests {
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
}
