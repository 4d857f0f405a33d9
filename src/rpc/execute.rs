//! Executes a decoded command for its caller: what the handlers of all mutations share.

use tonic::Status;

use super::{
    decode::{Decoded, for_caller},
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

/// The handler of a mutation that answers with its subject and how it was executed.
macro_rules! mutation {
    ($self:ident, $request:ident, $decode:path, $response:ident { $field:ident: $encode:path }) => {{
        let (deadline, caller) = (deadline_of(&$request), caller_of(&$request)?);
        let decoded = $decode($request.into_inner(), $self.defaults, deadline)?;
        let outcome = execute(&$self.ledger, decoded, caller).await?;
        let execution = Some(encode::execution(&outcome, $self.ledger.now()));
        Ok(Response::new(pb::$response { $field: $encode(&outcome.change), execution }))
    }};
}

pub(super) use mutation;
