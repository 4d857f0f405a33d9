//! Executes a decoded command for its caller: what the handlers of all mutations share.

use tokio::time::Instant;
use tonic::Status;

use super::{
    decode::{Decoded, for_caller},
    encode, pb,
    status::{self, About},
};
use crate::{
    domain::caller::Caller,
    ops::{Ledger, execute::Answer},
};

/// The outcome of a command, or the status of its refusal.
pub async fn execute(ledger: &Ledger, decoded: Decoded, caller: Caller) -> Result<Answer, Status> {
    let (command, how) = for_caller(decoded, caller)?;
    let subject = About::of(&command);
    ledger.execute(command, how).await.map_err(|error| status::of(&error, &subject))
}

/// Only of a replay: the reservation that it tells, as it is now; none of another user than the caller may act for.
pub async fn current_reservation(
    ledger: &Ledger,
    outcome: &Answer,
    caller: &Caller,
    deadline: Instant,
) -> Result<Option<pb::Reservation>, Status> {
    let current = ledger.current_reservation(outcome, deadline).await;
    let current = current.map_err(|error| status::of(&error, &About::default()))?;
    Ok(current.filter(|it| caller.may_act_for(&it.user_id)).as_ref().map(encode::reservation))
}

/// Only of a replay: the waitlist entry that it tells, as it is now.
pub async fn current_entry(
    ledger: &Ledger,
    outcome: &Answer,
    caller: &Caller,
    deadline: Instant,
) -> Result<Option<pb::WaitlistEntry>, Status> {
    let current = ledger.current_entry(outcome, deadline).await;
    let current = current.map_err(|error| status::of(&error, &About::default()))?;
    Ok(current.filter(|it| caller.may_act_for(&it.user_id)).as_ref().map(encode::waitlist_entry))
}

/// The handler of a mutation that answers with its subject and how it was executed; maybe also with the subject as it
/// is now, where the call is a replay.
macro_rules! mutation {
    ($self:ident, $request:ident, $decode:path, $response:ident {
        $field:ident: $encode:path $(, current: $current:path)? $(,)?
    }) => {{
        let (deadline, caller) = (deadline_of(&$request), caller_of(&$request)?);
        let decoded = $decode($request.into_inner(), $self.defaults, deadline)?;
        let outcome = execute(&$self.ledger, decoded, caller.clone()).await?;
        Ok(Response::new(pb::$response {
            $field: $encode(&outcome.change),
            $(current: $current(&$self.ledger, &outcome, &caller, deadline).await?,)?
            execution: Some(encode::execution(&outcome, $self.ledger.now())),
        }))
    }};
}

pub(super) use mutation;
