//! Whose call is next, and who is refused.

use futures::{FutureExt, future::BoxFuture};

use super::*;

fn queue(max: usize) -> Arc<FairQueue> {
    FairQueue::new("large", max, Arc::default())
}

fn acquire(queue: &Arc<FairQueue>, client: u64, bytes: usize) -> BoxFuture<'static, Option<Permit>> {
    let queue = Arc::clone(queue);
    async move { queue.acquire(client, bytes).await }.boxed()
}

/// Whether a call has its permit, which ends at once.
fn was_granted(call: &mut BoxFuture<'static, Option<Permit>>) -> bool {
    call.now_or_never().flatten().is_some()
}

/// A call that is queued.
fn queued(queue: &Arc<FairQueue>, client: u64, bytes: usize) -> BoxFuture<'static, Option<Permit>> {
    let mut call = acquire(queue, client, bytes);
    assert!((&mut call).now_or_never().is_none());
    call
}

fn is_idle(queue: &FairQueue) -> bool {
    let state = queue.state.lock();
    (state.running, state.bytes, state.clients.len()) == (0, 0, 0)
}

#[test]
fn no_more_answers_are_made_at_once_than_the_limit() {
    let queue = queue(2);
    let made: Vec<_> = (0..2).map(|_| acquire(&queue, 1, 0).now_or_never().flatten().expect("there is room")).collect();
    let mut third = queued(&queue, 2, 0);
    drop(made);
    assert!(was_granted(&mut third));
    assert!(is_idle(&queue));
}

#[test]
fn clients_take_turns() {
    let queue = queue(1);
    let made = acquire(&queue, 1, 0).now_or_never();
    let mut greedy: Vec<_> = (0..100).map(|_| queued(&queue, 1, 0)).collect();
    let mut modest = queued(&queue, 2, 0);
    drop(made);
    // The first that came, then the other client's.
    assert!((&mut modest).now_or_never().is_none() && was_granted(&mut greedy[0]));
    assert!(greedy[1..].iter_mut().all(|call| call.now_or_never().is_none()) && was_granted(&mut modest));
    assert!(greedy[1..].iter_mut().all(was_granted));
}

#[test]
fn a_call_that_leaves_the_queue_holds_up_no_other() {
    let queue = queue(1);
    let made = acquire(&queue, 1, 0).now_or_never();
    let (gone, next, mut last) = (queued(&queue, 1, 0), queued(&queue, 1, 0), queued(&queue, 1, 0));
    drop(gone);
    assert_eq!(queue.state.lock().bytes, 2 * CALL_BYTES);
    drop(made);
    // This one has a permit, and leaves without taking it.
    drop(next);
    assert!(was_granted(&mut last));
    assert!(is_idle(&queue));
}

#[test]
fn when_the_queue_is_full_the_client_with_most_of_it_is_refused() {
    let queue = queue(1);
    let made = acquire(&queue, 1, 0).now_or_never();
    let mut greedy: Vec<_> = (0..MAX_QUEUED / CALL_BYTES).map(|_| queued(&queue, 1, 0)).collect();
    assert!(acquire(&queue, 1, 0).now_or_never().is_some_and(|permit| permit.is_none()), "it is refused");
    let modest = queued(&queue, 2, CALL_BYTES);
    // Two calls made room for one with a message.
    let refused = greedy.iter_mut().filter_map(|call| call.now_or_never()).filter(Option::is_none).count();
    assert_eq!(refused, 2);
    assert!(acquire(&queue, 3, MAX_QUEUED).now_or_never().is_some_and(|permit| permit.is_none()), "too large");
    drop((made, modest, greedy));
    assert!(is_idle(&queue));
}
