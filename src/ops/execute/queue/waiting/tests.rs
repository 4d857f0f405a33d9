//! Tests of the queue of a lane.

use tokio::time::Instant;

use super::*;
use crate::{
    config::Config,
    domain::{
        caller::Caller,
        command::{Action, Command},
    },
};

struct Waiter(Command);

impl Job for Waiter {
    fn command(&self) -> &Command {
        &self.0
    }

    fn submitted(&self) -> Instant {
        Instant::now()
    }

    fn deadline(&self) -> Instant {
        Instant::now()
    }
}

fn waiter(event_id: &str) -> Waiter {
    let event_id = EventId::parse(event_id).expect("valid");
    Waiter(Command {
        event_id,
        action: Action::OpenEvent,
        etag: None,
        expected_event_version: None,
        request: None,
        caller: Caller::default(),
    })
}

fn waiting(batch_scope: BatchScope, event_ids: &[&str]) -> Waiting<Waiter> {
    let defaults = Config::load(None, &Vec::new()).expect("the defaults are right");
    let mut waiting = Waiting::new(Execution { max_batch: 3, batch_scope, ..defaults.execution });
    event_ids.iter().for_each(|id| waiting.push(waiter(id)));
    waiting
}

fn events(jobs: &[Waiter]) -> String {
    jobs.iter().map(|job| job.0.event_id.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_batch_is_filled_in_the_order_of_arrival() {
    let mut waiting = waiting(BatchScope::Any, &["a", "b", "a", "c"]);
    let mut taken = waiting.take();
    assert_eq!(events(&taken), "a b a");
    waiting.give_back(taken.split_off(1));
    assert_eq!((events(&waiting.take()), waiting.len()), ("b a c".into(), 0));
}

#[test]
fn a_batch_of_one_event_is_filled_with_that_event() {
    let mut waiting = waiting(BatchScope::Event, &["a", "b", "a"]);
    assert_eq!(events(&waiting.take()), "a a");
    assert_eq!(events(&waiting.take()), "b");
}

#[test]
fn what_waits_for_a_contended_event_follows_in_order() {
    let mut waiting = waiting(BatchScope::Any, &["a", "b", "a"]);
    let contended = EventId::parse("a").expect("valid");
    assert_eq!(waiting.divert(vec![waiter("a")]), std::slice::from_ref(&contended));
    assert!(waiting.divert(vec![waiter("a")]).is_empty(), "it has a queue");
    assert_eq!((events(&waiting.take()), waiting.len()), ("b".into(), 4));
    let mut taken = waiting.take_contended(&contended).expect("something waits");
    assert_eq!(taken.len(), 3);
    waiting.put_first(&contended, taken.split_off(1));
    assert_eq!(waiting.take_contended(&contended).map(|jobs| jobs.len()), Some(3));
    assert!(waiting.take_contended(&contended).is_none() && !waiting.is_contended(&contended));
}
