//! Tests of `read_throttle`.

use futures::poll;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use super::*;
use crate::net::concurrency_limit::Permit;

const SENT: usize = 3 * CHUNK;

fn counter() -> IntCounter {
    IntCounter::new("waits", "waits").expect("a name")
}

/// A connection on which something was sent, and calls that run.
async fn connection(running: usize) -> (ReadThrottle<DuplexStream>, DuplexStream, Vec<Permit>) {
    let limit = ConcurrencyLimit::new(4);
    let calls: Vec<_> = (0..running).filter_map(|_| limit.try_acquire()).collect();
    let (mut client, server) = duplex(SENT);
    client.write_all(&[1; SENT]).await.expect("it fits");
    (ReadThrottle::new(server, limit, counter()), client, calls)
}

#[tokio::test]
async fn far_from_the_limit_reads_are_not_throttled() {
    let (mut wire, _client, _calls) = connection(2).await;
    assert_eq!(wire.read(&mut [0; SENT]).await.expect("it is open"), SENT);
}

#[tokio::test]
async fn near_the_limit_a_chunk_is_read_as_calls_end() {
    let (mut wire, _client, mut calls) = connection(3).await;
    let mut buffer = [0; SENT];
    assert!(poll!(Box::pin(wire.read(&mut buffer))).is_pending());
    calls.pop();
    assert_eq!(wire.read(&mut buffer).await.expect("it is open"), CHUNK);
    calls.extend(wire.limit.try_acquire());
    assert!(poll!(Box::pin(wire.read(&mut buffer))).is_pending(), "its calls run");
    calls.clear();
    assert_eq!(wire.read(&mut buffer).await.expect("it is open"), CHUNK);
    assert_eq!(wire.read(&mut buffer).await.expect("it is open"), CHUNK);
}

#[tokio::test]
async fn a_wait_is_bounded() {
    let (mut wire, _client, _calls) = connection(4).await;
    let asked = Instant::now();
    assert_eq!(wire.read(&mut [0; SENT]).await.expect("it is open"), CHUNK);
    assert!(asked.elapsed() >= MAX_WAIT);
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_others() {
    let limit = ConcurrencyLimit::new(4);
    let mut calls: Vec<_> = (0..3).filter_map(|_| limit.try_acquire()).collect();
    let (_silent, other) = duplex(SENT);
    let mut silent = ReadThrottle::new(other, Arc::clone(&limit), counter());
    let (mut client, other) = duplex(SENT);
    let mut busy = ReadThrottle::new(other, limit, counter());
    client.write_all(&[1; 10]).await.expect("it fits");
    let (mut first, mut second) = ([0; 10], [0; 10]);
    let mut silence = Box::pin(silent.read(&mut first));
    let mut reading = Box::pin(busy.read(&mut second));
    assert!(poll!(&mut silence).is_pending() && poll!(&mut reading).is_pending());
    calls.pop();
    assert!(poll!(&mut silence).is_pending(), "nothing was sent on it");
    assert!(poll!(&mut reading).is_ready(), "it is the other's turn");
}
