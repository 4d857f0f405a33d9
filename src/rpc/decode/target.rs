//! Which reservations or entries a message means, and whose.

use tonic::Status;

use super::frame::Decoded;
use crate::{
    domain::{
        caller::Caller,
        command::Action,
        ids::{EventId, Target, UserId},
    },
    rpc::{fields::Fields, pb, status},
};

/// More states than there are mean nothing new.
const MAX_STATES: usize = 16;

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

/// The command of this caller. One that acts for itself only reserves and joins for no other user, and finds only its
/// own reservations and entries.
pub fn for_caller((command, options): Decoded, caller: Caller) -> Result<Decoded, Status> {
    let user = match &command.action {
        Action::Reserve(reserve) => Some(&reserve.user_id),
        Action::Join(join) => Some(&join.user_id),
        _ => None,
    };
    match user {
        Some(user) if !caller.may_act_for(user) => Err(status::not_your_user("user_id")),
        _ => Ok((command.by(caller), options)),
    }
}

/// Restricts a listing, and its page token, to the one user whose data the caller reaches.
pub fn restrict(user_id: &mut String, only: Option<UserId>) -> Result<(), Status> {
    let Some(only) = only else { return Ok(()) };
    if !user_id.is_empty() && *user_id != only.as_str() {
        return Err(status::not_your_user("user_id"));
    }
    *user_id = only.to_string();
    Ok(())
}

/// The event, the user or both that a listing is about.
pub fn event_or_user(fields: &mut Fields, event_id: &str, user_id: &str) -> (Option<EventId>, Option<UserId>) {
    let event = if event_id.is_empty() { None } else { fields.event_id("event_id", event_id) };
    let user = if user_id.is_empty() { None } else { fields.user_id("user_id", user_id) };
    if event_id.is_empty() && user_id.is_empty() {
        fields.reject("event_id", "or user_id must be set");
    }
    (event, user)
}

/// The states of a filter, each once. An unspecified one is rejected, and never reaches `domain`.
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
