//! What the answers said: counted, and the newest acknowledged state of every reservation.

use std::collections::{BTreeMap, HashMap};

use reservd::rpc::pb::{ExecutionReport, Reservation};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Reserve,
    Confirm,
    Cancel,
    Extend,
    Amend,
}

/// What came of one kind of call.
#[derive(Debug, Default)]
pub struct Count {
    pub done: u64,
    /// Told again, for a request_id that had been answered before.
    pub replayed: u64,
    pub refused: u64,
}

/// What came of many calls.
#[derive(Debug, Default)]
pub struct Tally {
    pub calls: BTreeMap<Call, Count>,
    pub refusals: BTreeMap<String, u64>,
    /// By reservation_id: the newest version that an answer told.
    pub acknowledged: HashMap<String, Reservation>,
    pub problems: Vec<String>,
}

/// What an answer says, whichever call it answers.
pub type Answer = Result<(Option<Reservation>, Option<ExecutionReport>), Status>;

/// An answer that brought a reservation.
pub struct Done {
    pub reservation: Reservation,
    pub replayed: bool,
}

impl Tally {
    /// Counts an answer, and returns what it brought.
    pub fn note(&mut self, call: Call, answer: Answer) -> Option<Done> {
        match answer {
            Ok((Some(reservation), Some(execution))) => {
                let replayed = execution.replayed;
                let count = self.calls.entry(call).or_default();
                *if replayed { &mut count.replayed } else { &mut count.done } += 1;
                self.acknowledge(reservation.clone());
                Some(Done { reservation, replayed })
            }
            Ok(_) => {
                self.problem(format!("{call:?} was answered without a reservation or a report"));
                None
            }
            Err(status) => {
                self.calls.entry(call).or_default().refused += 1;
                let reason = status.get_details_error_info().map(|info| info.reason);
                if !is_expected(status.code(), reason.as_deref()) {
                    self.problem(format!("{call:?} failed: {:?}: {}", status.code(), status.message()));
                }
                let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
                *self.refusals.entry(reason).or_default() += 1;
                None
            }
        }
    }

    pub fn problem(&mut self, what: String) {
        self.problems.push(what);
    }

    pub fn add(&mut self, other: Self) {
        for (call, count) in other.calls {
            let sum = self.calls.entry(call).or_default();
            sum.done += count.done;
            sum.replayed += count.replayed;
            sum.refused += count.refused;
        }
        for (reason, count) in other.refusals {
            *self.refusals.entry(reason).or_default() += count;
        }
        // No two travellers share a reservation.
        self.acknowledged.extend(other.acknowledged);
        self.problems.extend(other.problems);
    }

    /// A replay tells an older version than what came after it.
    fn acknowledge(&mut self, reservation: Reservation) {
        let known = self.acknowledged.entry(reservation.reservation_id.clone()).or_default();
        if known.version < reservation.version {
            *known = reservation;
        }
    }
}

/// Whether a refusal may meet correct calls to a service that works: a business "no", a lost race, or
/// too many at once.
fn is_expected(code: Code, reason: Option<&str>) -> bool {
    let is_refusal =
        matches!(code, Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted | Code::ResourceExhausted);
    is_refusal && reason.is_some()
}
