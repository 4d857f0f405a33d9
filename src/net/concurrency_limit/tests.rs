//! Tests of `concurrency_limit`.

use super::*;

fn running(limit: &Arc<ConcurrencyLimit>, calls: usize) -> Vec<Permit> {
    (0..calls).filter_map(|_| limit.try_acquire()).collect()
}

#[test]
fn no_call_runs_beyond_the_limit() {
    let limit = ConcurrencyLimit::new(4);
    let calls = running(&limit, 4);
    assert!(calls.len() == 4 && limit.try_acquire().is_none());
    drop(calls);
    assert!(limit.try_acquire().is_some());
}

#[test]
fn turns_are_granted_in_order_and_only_as_calls_end() {
    let limit = ConcurrencyLimit::new(100);
    let mut calls = running(&limit, 75);
    assert!(limit.is_near());
    let [mut first, mut second, mut third] = [(); 3].map(|()| limit.queue_read());
    assert!(first.try_recv().is_err());
    calls.pop();
    let turn = first.try_recv().expect("there is room for one");
    // It may bring twenty calls, so there is no room for another.
    calls.truncate(60);
    assert!(second.try_recv().is_err());
    calls.truncate(50);
    let _second = second.try_recv().expect("there is room for two");
    assert!(third.try_recv().is_err());
    drop(turn);
    assert!(third.try_recv().is_ok(), "a turn that ends makes room for the next");
}

#[test]
fn a_connection_that_leaves_the_queue_gets_no_turn() {
    let limit = ConcurrencyLimit::new(4);
    let mut calls = running(&limit, 3);
    drop(limit.queue_read());
    let mut next = limit.queue_read();
    calls.pop();
    assert!(next.try_recv().is_ok());
    assert!(!limit.is_near());
}
