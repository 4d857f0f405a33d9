//! Whose call is next, who shares an answer, and who is refused.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};

use super::*;

type Queue = Arc<FairQueue<&'static str>>;
type Waiting = BoxFuture<'static, Option<Turn<&'static str>>>;

fn queue(max: usize) -> Queue {
    FairQueue::new("large", max, Arc::default())
}

fn of(client: u64, bytes: usize) -> Asked {
    Asked { client, bytes, deadline: Instant::now(), question: None }
}

fn asking(client: u64, question: &'static str) -> Asked {
    Asked { question: Some(Bytes::from_static(question.as_bytes())), ..of(client, 0) }
}

fn acquire_for(queue: &Queue, asked: Asked) -> Waiting {
    let queue = Arc::clone(queue);
    async move { queue.acquire(asked).await }.boxed()
}

fn acquire(queue: &Queue, client: u64, bytes: usize) -> Waiting {
    acquire_for(queue, of(client, bytes))
}

/// The permit of a call, if it has it.
fn permit(call: &mut Waiting) -> Option<Permit<&'static str>> {
    match call.now_or_never().flatten() {
        Some(Turn::Run(permit)) => Some(permit),
        _ => None,
    }
}

/// The answer of a call, if it has it.
fn answer(call: &mut Waiting) -> Option<&'static str> {
    match call.now_or_never().flatten() {
        Some(Turn::Answered(answer)) => Some(answer),
        _ => None,
    }
}

/// Whether a call has its permit, which ends at once.
fn was_granted(call: &mut Waiting) -> bool {
    permit(call).is_some()
}

/// A call that is queued.
fn queued_for(queue: &Queue, asked: Asked) -> Waiting {
    let mut call = acquire_for(queue, asked);
    assert!((&mut call).now_or_never().is_none());
    call
}

fn queued(queue: &Queue, client: u64, bytes: usize) -> Waiting {
    queued_for(queue, of(client, bytes))
}

fn is_idle(queue: &Queue) -> bool {
    let state = queue.state.lock();
    (state.running, state.bytes, state.clients.len(), state.being_answered.len()) == (0, 0, 0, 0)
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
    assert!(acquire(&queue, 1, 0).now_or_never().is_some_and(|turn| turn.is_none()), "it is refused");
    let modest = queued(&queue, 2, CALL_BYTES);
    // Two calls made room for one with a message.
    let refused = greedy.iter_mut().filter_map(|call| call.now_or_never()).filter(Option::is_none).count();
    assert_eq!(refused, 2);
    assert!(acquire(&queue, 3, MAX_QUEUED).now_or_never().is_some_and(|turn| turn.is_none()), "too large");
    drop((made, modest, greedy));
    assert!(is_idle(&queue));
}

#[test]
fn calls_that_wait_with_the_same_question_get_one_answer() {
    let queue = queue(2);
    let mut first = acquire_for(&queue, asking(1, "e"));
    let first = permit(&mut first).expect("there is room");
    // There is room for one more, but not for the same question.
    let mut same: Vec<_> = (2..6).map(|client| queued_for(&queue, asking(client, "e"))).collect();
    let mut other = acquire_for(&queue, asking(2, "f"));
    let other = permit(&mut other).expect("there is room");
    assert_eq!(first.take_followers().count(), 4, "those that came before it began");
    drop((first, other));
    assert!(same.iter_mut().all(|call| call.now_or_never().is_some_and(|turn| turn.is_none())), "it gave no answer");
    assert!(is_idle(&queue));
}

#[test]
fn an_answer_is_never_older_than_the_call_that_it_is_for() {
    let queue = queue(2);
    let mut first = acquire_for(&queue, asking(1, "e"));
    let first = permit(&mut first).expect("there is room");
    let followers = first.take_followers();
    // These come when the first answer has begun: the next one is theirs.
    let [mut second, mut third] = [2, 3].map(|client| queued_for(&queue, asking(client, "e")));
    followers.answer(&"old");
    drop(first);
    let second = permit(&mut second).expect("its turn");
    let followers = second.take_followers();
    let mut fourth = queued_for(&queue, asking(4, "e"));
    followers.answer(&"new");
    assert_eq!(answer(&mut third), Some("new"));
    assert!((&mut fourth).now_or_never().is_none(), "it came too late for this one");
    drop(second);
    assert!(was_granted(&mut fourth));
    assert!(is_idle(&queue));
}

#[test]
fn a_call_that_hangs_up_takes_no_answer_from_others() {
    let queue = queue(1);
    let mut first = acquire_for(&queue, asking(1, "e"));
    let first = permit(&mut first).expect("there is room");
    let [next, mut last] = [2, 3].map(|client| queued_for(&queue, asking(client, "e")));
    drop(first);
    // This one has the permit, and leaves without taking it.
    drop(next);
    let last = permit(&mut last).expect("its turn");
    let gone = queued_for(&queue, asking(4, "e"));
    let mut waiting = queued_for(&queue, asking(5, "e"));
    let followers = last.take_followers();
    drop(gone);
    followers.answer(&"an answer");
    assert_eq!(answer(&mut waiting), Some("an answer"));
    drop(last);
    assert!(is_idle(&queue));
}

#[test]
fn an_answer_may_take_as_long_as_the_most_patient_caller_waits() {
    let queue = queue(1);
    let mut first = acquire_for(&queue, asking(1, "e"));
    let first = permit(&mut first).expect("there is room");
    assert_eq!(first.take_followers().deadline(), None);
    let now = Instant::now();
    let _waiting = [2, 9, 4].map(|seconds| {
        queued_for(&queue, Asked { deadline: now + Duration::from_secs(seconds), ..asking(seconds, "e") })
    });
    assert_eq!(first.take_followers().deadline(), Some(now + Duration::from_secs(9)));
}
