//! Reservations: read, listed, changed in whole and in part, extended, expired.

mod change;
mod expiry;
mod list;
mod order;

use reservd::rpc::pb::{self, *};

use crate::support::{TestServer, of_user, reserve};

/// A hold of this many units.
async fn hold(server: &TestServer, event_id: &str, user_id: &str, quantity: i32) -> pb::Reservation {
    let request = ReserveRequest { quantity, ..reserve(event_id, user_id) };
    server
        .reservations()
        .reserve(request)
        .await
        .expect("there is room")
        .into_inner()
        .reservation
        .expect("it is in the response")
}

async fn get(server: &TestServer, event_id: &str, reservation: Option<ReservationSelector>) -> pb::Reservation {
    let request = GetReservationRequest { event_id: event_id.into(), reservation };
    let found = server.reservations().get_reservation(request).await.expect("it is there").into_inner();
    found.reservation.expect("it is in the response")
}

fn confirm(event_id: &str, user_id: &str) -> ConfirmRequest {
    ConfirmRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

fn cancel(event_id: &str, user_id: &str) -> CancelRequest {
    CancelRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

fn extend(event_id: &str, user_id: &str) -> ExtendRequest {
    ExtendRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

fn amend(event_id: &str, user_id: &str) -> AmendRequest {
    AmendRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

/// A moment in microseconds.
fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.expect("a moment");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}
