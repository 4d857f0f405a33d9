//! The waitlist: entries are promoted in order, by every command that frees places, before any newcomer.

mod audit;
mod early;
mod frees;
mod life;
mod operators;
mod races;
mod refusals;

use reservd::rpc::pb;

use crate::support::{TestServer, new_id, of_user, reserve};

/// A full event with a waitlist: `ann` holds all units.
async fn full(server: &TestServer, event_id: &str, capacity: i32, policy: pb::WaitlistPolicy) {
    server.event_with_waitlist(event_id, capacity, policy).await;
    server.reserve(pb::ReserveRequest { quantity: capacity, ..reserve(event_id, "ann") }).await.expect("there is room");
}

/// Cancels this many of a user's units; all if zero.
fn cancel(event_id: &str, user_id: &str, quantity: i32) -> pb::CancelRequest {
    pb::CancelRequest {
        event_id: event_id.into(),
        reservation: of_user(user_id),
        quantity: Some(quantity).filter(|quantity| *quantity > 0),
        request_id: new_id(),
        ..Default::default()
    }
}

fn leave(event_id: &str, user_id: &str) -> pb::LeaveWaitlistRequest {
    pb::LeaveWaitlistRequest {
        event_id: event_id.into(),
        entry: crate::support::entry_of_user(user_id),
        ..Default::default()
    }
}
