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
mod tests;
