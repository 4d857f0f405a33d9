//! Which clients are disconnected, and when.

use std::task::Waker;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn clients() -> Arc<SlowClients> {
    SlowClients::new(LIMIT, Arc::default())
}

/// As if everything had been pending for so much longer.
fn age(client: &Client, by: Duration) {
    for (since, _) in client.items.lock().since.values_mut() {
        *since = since.checked_sub(by).expect("the machine has run for longer");
    }
    client.all.clients.lock().last_shed = None;
}

fn is_disconnected(client: &Client) -> bool {
    client.is_disconnected(&Context::from_waker(Waker::noop()))
}

#[test]
fn beyond_the_budget_the_slowest_client_is_disconnected() {
    let clients = clients();
    let (slow, honest) = (clients.connect(), clients.connect());
    let _kept = slow.await_message(BUDGET / 2);
    age(&slow, MIN_WAIT);
    drop(honest.await_message(BUDGET));
    assert!(is_disconnected(&slow) && !is_disconnected(&honest));
}

#[test]
fn no_client_is_disconnected_within_the_budget_or_for_a_short_wait() {
    let clients = clients();
    let (one, other) = (clients.connect(), clients.connect());
    let little = one.await_message(BUDGET / 2);
    age(&one, 10 * MIN_WAIT);
    drop(other.await_message(BUDGET / 4));
    drop(little);
    let _much = one.await_message(BUDGET + 1);
    assert!(!is_disconnected(&one));
    // Beyond twice the budget no wait is too short.
    age(&one, MIN_WAIT / 2);
    let _more = other.await_message(BUDGET - CALL_BYTES);
    assert!(is_disconnected(&one) && !is_disconnected(&other));
    // Then clients with much pending get no more, until there is room again.
    assert!(other.await_message(0).is_none() && clients.connect().await_message(0).is_some());
}

#[test]
fn a_client_that_reads_an_answer_slowly_stays() {
    let clients = clients();
    let (slow, stuck) = (clients.connect(), clients.connect());
    let (_slowly, number) = slow.await_read(Bytes::from(vec![0; BUDGET / 2]));
    let _not_at_all = stuck.await_read(Bytes::from(vec![0; BUDGET / 3]));
    age(&slow, 2 * MIN_WAIT);
    age(&stuck, MIN_WAIT);
    slow.note_progress(number);
    let _more = slow.await_message(BUDGET / 2);
    assert!(is_disconnected(&stuck) && !is_disconnected(&slow));
}

#[test]
fn nothing_is_pending_for_longer_than_the_limit() {
    let clients = clients();
    let (slow, honest) = (clients.connect(), clients.connect());
    let (_for_long, _for_now) = (slow.await_message(0), honest.await_message(0));
    age(&slow, LIMIT - MIN_WAIT);
    clients.check();
    assert!(!is_disconnected(&slow));
    age(&slow, MIN_WAIT);
    clients.check();
    assert!(is_disconnected(&slow) && !is_disconnected(&honest));
}

#[test]
fn streams_count_once_they_are_stuck() {
    let clients = clients();
    let (watcher, other) = (clients.connect(), clients.connect());
    let _sent: Vec<_> = (0..=BUDGET / STREAM_BYTES).map(|_| watcher.await_stream_read(Bytes::new())).collect();
    age(&watcher, STUCK / 2);
    clients.check();
    assert!(!is_disconnected(&watcher));
    age(&watcher, STUCK / 2);
    let _sent_now = other.await_stream_read(Bytes::new());
    clients.check();
    assert!(is_disconnected(&watcher) && !is_disconnected(&other));
}

#[test]
fn an_answer_is_pending_until_all_of_it_is_read() {
    let clients = clients();
    let client = clients.connect();
    let (mut answer, _) = client.await_read(Bytes::from_static(b"some words"));
    let half = answer.split_to(5);
    drop(answer);
    assert!(client.pending_since().is_some());
    assert_eq!(clients.pending_bytes.load(Ordering::Relaxed), CALL_BYTES + 10);
    drop(half);
    assert!(client.pending_since().is_none());
    assert_eq!(clients.pending_bytes.load(Ordering::Relaxed), 0);
    drop(client);
    assert!(clients.clients.lock().connected.is_empty());
}
