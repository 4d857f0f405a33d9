//! Reservations.

use super::value::timestamp;
use crate::{
    domain::reservation::{Reservation, State},
    rpc::pb,
};

fn reservation_state(state: State) -> pb::ReservationState {
    match state {
        State::Held => pb::ReservationState::Held,
        State::Confirmed => pb::ReservationState::Confirmed,
        State::Cancelled => pb::ReservationState::Cancelled,
        State::Expired => pb::ReservationState::Expired,
    }
}

pub fn reservation(reservation: &Reservation) -> pb::Reservation {
    pb::Reservation {
        reservation_id: reservation.id.to_string(),
        event_id: reservation.event_id.to_string(),
        user_id: reservation.user_id.to_string(),
        quantity: reservation.quantity.cast_signed(),
        state: reservation_state(reservation.state).into(),
        create_time: Some(timestamp(reservation.create_time)),
        update_time: Some(timestamp(reservation.update_time)),
        expire_time: reservation.expire_time.map(timestamp),
        confirm_time: reservation.confirm_time.map(timestamp),
        extension_count: reservation.extensions.cast_signed(),
        cancel_reason: reservation.cancel_reason.clone().unwrap_or_default(),
        labels: reservation.labels.0.clone(),
        version: reservation.version,
        etag: reservation.etag(),
        from_waitlist: reservation.id.is_from_waitlist(),
    }
}
