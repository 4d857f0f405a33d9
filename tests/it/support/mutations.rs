//! The mutations of a reservation as one line each.

use futures::future::join_all;
use reservd::rpc::pb;
use tonic::Status;

use super::TestServer;

/// What every mutation of a reservation answers with.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub reservation: pb::Reservation,
    pub execution: pb::ExecutionReport,
}

macro_rules! mutation {
    ($name:ident, $request:ident) => {
        pub async fn $name(&self, request: pb::$request) -> Result<Answer, Status> {
            let answer = self.reservations().$name(request).await?.into_inner();
            let reservation = answer.reservation.expect("a mutation answers with the reservation");
            Ok(Answer { reservation, execution: answer.execution.expect("and tells how it was carried out") })
        }
    };
}

impl TestServer {
    mutation!(reserve, ReserveRequest);
    mutation!(confirm, ConfirmRequest);
    mutation!(cancel, CancelRequest);
    mutation!(extend, ExtendRequest);
    mutation!(amend, AmendRequest);

    /// The user's reservation as it is now.
    pub async fn reservation(&self, event_id: &str, user_id: &str) -> pb::Reservation {
        let request = pb::GetReservationRequest { event_id: event_id.into(), reservation: super::of_user(user_id) };
        let found = self.reservations().get_reservation(request).await.expect("the reservation is there");
        found.into_inner().reservation.expect("it is told")
    }
}

/// Makes calls at once, and returns their answers in the same order.
pub async fn all<T>(calls: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(calls).await
}

/// Those that succeeded, and the statuses of those that did not.
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

/// Each strategy alone, and all by turns, with a name for an event of its own.
pub const MIXES: [(&str, &[pb::Strategy]); 4] = [
    ("pessimistic", &[pb::Strategy::Pessimistic]),
    ("optimistic", &[pb::Strategy::Optimistic]),
    ("coalesced", &[pb::Strategy::Coalesced]),
    ("mixed", &super::STRATEGIES),
];

/// The strategy of the racer of this number.
pub fn by_turns(mix: &[pb::Strategy], number: usize) -> Option<pb::ExecutionOptions> {
    super::with(mix[number % mix.len()])
}

/// Settings under which every racer gets its answer, however long the line.
pub const PATIENT: [(&str, &str); 4] = [
    ("execution.max_attempts", "100"),
    ("server.default_deadline", "60s"),
    ("server.max_deadline", "5min"),
    ("database.acquire_timeout", "60s"),
];

/// [`PATIENT`] and more.
pub fn patient_and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PATIENT.iter().chain(more).copied().collect()
}
