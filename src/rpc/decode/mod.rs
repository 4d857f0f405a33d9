//! Messages to commands. Every bad field is found before any is answered.

pub mod event;
pub mod history;
pub mod reservation;
pub mod session;
pub mod waitlist;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{fields::Fields, pb, status};
use crate::{
    config::Strategy,
    domain::{
        caller::Caller,
        command::{Action, Command},
        ids::{EventId, Fingerprint, Request, RequestId, Target, UserId},
    },
    ops::execute::ExecOptions,
    store::LockWait,
};

/// The digest of what a request_id stands for: the RPC and its message, less the request_id itself
/// and how to carry it out. The message is encoded anew from its known fields, so the digest does not
/// depend on the client that encoded it first.
fn fingerprint(rpc: &str, message: &impl Message) -> Fingerprint {
    let digest = Sha256::new().chain_update(rpc).chain_update([0]).chain_update(message.encode_to_vec()).finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Fingerprint(first)
}

fn request(id: Option<RequestId>, fingerprint: Fingerprint) -> Option<Request> {
    id.map(|id| Request { id, fingerprint })
}

/// A strategy that is known to say something.
pub fn strategy_of(strategy: pb::Strategy) -> Strategy {
    match strategy {
        pb::Strategy::Optimistic => Strategy::Optimistic,
        pb::Strategy::Coalesced => Strategy::Coalesced,
        pb::Strategy::Pessimistic | pb::Strategy::Unspecified => Strategy::Pessimistic,
    }
}

/// A lock wait; unspecified is to wait.
pub fn lock_wait_of(wait: pb::LockWait) -> LockWait {
    match wait {
        pb::LockWait::Nowait => LockWait::NoWait,
        pb::LockWait::Wait | pb::LockWait::Unspecified => LockWait::Wait,
    }
}

/// Which reservation a message means.
pub fn target(fields: &mut Fields, selector: Option<pb::ReservationSelector>) -> Option<Target> {
    use pb::reservation_selector::Selector;
    match selector.and_then(|selector| selector.selector) {
        Some(Selector::ReservationId(id)) => fields.reservation_id("reservation.reservation_id", &id).map(Target::Id),
        Some(Selector::UserId(id)) => fields.user_id("reservation.user_id", &id).map(Target::User),
        None => {
            fields.reject("reservation", "must have reservation_id or user_id");
            None
        }
    }
}

/// Which waitlist entry a message means.
pub fn entry_target(fields: &mut Fields, selector: Option<pb::WaitlistEntrySelector>) -> Option<Target> {
    use pb::waitlist_entry_selector::Selector;
    match selector.and_then(|selector| selector.selector) {
        Some(Selector::EntryId(id)) => fields.reservation_id("entry.entry_id", &id).map(Target::Id),
        Some(Selector::UserId(id)) => fields.user_id("entry.user_id", &id).map(Target::User),
        None => {
            fields.reject("entry", "must have entry_id or user_id");
            None
        }
    }
}

/// A command and how to carry it out.
pub type Order = (Command, ExecOptions);

fn order(
    fields: Fields,
    event_id: Option<EventId>,
    action: Option<Action>,
    etag: Option<Option<String>>,
    request: Option<Option<Request>>,
    how: Option<ExecOptions>,
) -> Result<Order, Status> {
    let order = || {
        let caller = Caller::default();
        Some((Command { event_id: event_id?, action: action?, etag: etag?, request: request?, caller }, how?))
    };
    let order = order();
    fields.finish(order)
}

/// An order as its caller gives it: one that acts for itself only reserves, and waits, for nobody else, and what
/// it names is looked for among its own.
pub fn by((command, how): Order, caller: Caller) -> Result<Order, Status> {
    let user = match &command.action {
        Action::Reserve(wish) => Some(&wish.user_id),
        Action::Join(wish) => Some(&wish.user_id),
        _ => None,
    };
    match user {
        Some(user) if !caller.may_act_for(user) => Err(status::not_your_user("user_id")),
        _ => Ok((command.by(caller), how)),
    }
}

/// Makes a listing one of what is this user's, if the caller may reach one user's only. So is its page
/// token, then, and nobody else's.
pub fn restrict(user_id: &mut String, only: Option<UserId>) -> Result<(), Status> {
    let Some(only) = only else { return Ok(()) };
    if !user_id.is_empty() && *user_id != only.as_str() {
        return Err(status::not_your_user("user_id"));
    }
    *user_id = only.to_string();
    Ok(())
}

/// States of a filter, each once. An unspecified one is rejected, and never reaches `domain`.
pub fn states<E, S>(fields: &mut Fields, values: &[i32], domain: impl Fn(E) -> S) -> Vec<S>
where
    E: TryFrom<i32> + Default + PartialEq,
    S: PartialEq,
{
    let mut states = Vec::new();
    for (place, value) in values.iter().enumerate().take(MAX_STATES) {
        if let Some(state) = fields.known::<E>(&format!("states[{place}]"), *value).map(&domain)
            && !states.contains(&state)
        {
            states.push(state);
        }
    }
    if values.len() > MAX_STATES {
        fields.reject("states", format!("must have at most {MAX_STATES} items"));
    }
    states
}

/// More states than there are say nothing new.
const MAX_STATES: usize = 16;
