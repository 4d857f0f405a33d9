//! One-line mutations of a reservation, and their responses.

use futures::future::join_all;
use reservd::rpc::pb;
use tonic::Status;

use super::TestServer;

/// The response of every mutation of a reservation.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub reservation: pb::Reservation,
    pub execution: pb::ExecutionReport,
}

macro_rules! mutation {
    ($name:ident, $request:ident) => {
        pub async fn $name(&self, request: pb::$request) -> Result<Answer, Status> {
            let answer = self.reservations().$name(request).await?.into_inner();
            let reservation = answer.reservation.expect("the reservation");
            Ok(Answer { reservation, execution: answer.execution.expect("the execution report") })
        }
    };
}

impl TestServer {
    mutation!(reserve, ReserveRequest);
    mutation!(confirm, ConfirmRequest);
    mutation!(cancel, CancelRequest);
    mutation!(extend, ExtendRequest);
    mutation!(amend, AmendRequest);

    /// The user's current reservation.
    pub async fn reservation(&self, event_id: &str, user_id: &str) -> pb::Reservation {
        let request = pb::GetReservationRequest { event_id: event_id.into(), reservation: super::of_user(user_id) };
        let found = self.reservations().get_reservation(request).await.expect("the reservation exists");
        found.into_inner().reservation.expect("the response has it")
    }
}

/// Makes calls concurrently, and returns their results in order.
pub async fn all<T>(calls: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(calls).await
}

/// The successes, and the statuses of the failures.
pub fn sorted<T>(answers: Vec<Result<T, Status>>) -> (Vec<T>, Vec<Status>) {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(value) => good.push(value),
            Err(status) => refused.push(status),
        }
    }
    (good, refused)
}

/// Each strategy alone, and all strategies in turn, each with a name for its event.
pub const MIXES: [(&str, &[pb::ExecutionStrategy]); 4] = [
    ("pessimistic", &[pb::ExecutionStrategy::Pessimistic]),
    ("optimistic", &[pb::ExecutionStrategy::Optimistic]),
    ("coalesced", &[pb::ExecutionStrategy::Coalesced]),
    ("mixed", &super::STRATEGIES),
];

/// The strategy of the call with this number.
pub fn by_turns(mix: &[pb::ExecutionStrategy], number: usize) -> Option<pb::ExecutionOptions> {
    super::with(mix[number % mix.len()])
}

/// Settings with long timeouts, for races of many calls.
pub const PATIENT: [(&str, &str); 4] = [
    ("execution.max_attempts", "100"),
    ("server.default_deadline", "60s"),
    ("server.max_deadline", "5min"),
    ("database.acquire_timeout", "60s"),
];

/// [`PATIENT`] and further settings.
pub fn patient_and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PATIENT.iter().chain(more).copied().collect()
}
