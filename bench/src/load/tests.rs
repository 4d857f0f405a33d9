//! Open loops are charged for stalls, and only certain refusals count as certain.

use super::*;
use crate::scenario::Shape;

/// A hundred arrivals a second for a second, of which the first tenth is warm-up.
fn open_loop() -> Group {
    let load = Load {
        server: ([127, 0, 0, 1], 1).into(),
        bearer: None,
        strategy: pb::ExecutionStrategy::Pessimistic,
        work: Work::Reserve,
        picker: Picker::new(Shape::Hot, 1),
        callers: 1,
        arrivals: Some(100.0),
        warm_up: Duration::from_millis(100),
        duration: Duration::from_millis(900),
        request_ids: false,
        seed: 1,
    };
    Group::new(load).expect("valid")
}

#[tokio::test]
async fn an_arrival_starts_when_it_was_due_whenever_it_is_taken() {
    let group = open_loop();
    group.arrivals.as_ref().expect("an open loop").due.add_permits(3);
    for number in 0..3 {
        let due = group.start + Duration::from_millis(10) * number;
        assert_eq!(group.next_start().await, Some(due));
    }
    group.arrivals.as_ref().expect("an open loop").due.close();
    assert_eq!(group.next_start().await, None);
}

#[test]
fn a_stall_is_charged_for_everyone_who_came_meanwhile() {
    let group = open_loop();
    // The first eleven were served; from then on the server stalls until the end.
    group.arrivals.as_ref().expect("an open loop").taken.set(11);
    let mut tally = Tally::new().expect("valid bounds");
    group.charge_for_unserved(&mut tally);
    assert_eq!((tally.latency.len(), tally.failures["NOT_SENT"]), (89, 89));
    let millis = |percentile| tally.latency.value_at_percentile(percentile) / 1000;
    assert!((445..=455).contains(&millis(50.0)) && (885..=895).contains(&millis(100.0)), "{}", millis(50.0));
}

#[test]
fn an_answer_counts_from_the_intended_start() {
    let group = open_loop();
    let (begin, _) = group.measured;
    let long_ago = begin.checked_sub(Duration::from_secs(5));
    let late = Group { measured: (begin - Duration::from_secs(10), begin + Duration::from_secs(3600)), ..group };
    let execution = Some(wire::Execution { attempts: 2, batch_size: 0 });
    let answered = late.count(long_ago.expect("the machine runs longer"), Ok(wire::Answer { execution }));
    assert!(answered.expect("not broken"));
    let tally = late.tally.borrow();
    assert_eq!((tally.successes, tally.attempts, tally.acknowledged), (1, 2, 1));
    assert!(tally.latency.max() >= 4_900_000, "{}", tally.latency.max());
}

#[test]
fn only_answers_that_leave_no_doubt_are_known() {
    let group = open_loop();
    for status in [tonic::Status::aborted(""), tonic::Status::resource_exhausted(""), tonic::Status::not_found("")] {
        assert!(!group.count(group.start, Err(CallError::Refused(Box::new(status)))).expect("not broken"));
    }
    assert_eq!(group.tally.borrow().unknown, 0);
    for status in [tonic::Status::deadline_exceeded(""), tonic::Status::internal(""), tonic::Status::unavailable("")] {
        assert!(!group.count(group.start, Err(CallError::Refused(Box::new(status)))).expect("not broken"));
    }
    assert_eq!(group.tally.borrow().unknown, 3);
    assert!(group.count(group.start, Err(CallError::Broken("cut".into()))).is_err());
}
