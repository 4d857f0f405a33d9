//! `reservd reservation`: reservations, one at a time or listed.

mod change;
mod read;

use clap::{ArgGroup, Args, Subcommand};

use super::{
    failure::Failure,
    table::{Column, Table},
    text,
};
use crate::rpc::pb::{Reservation, ReservationSelector, reservation_selector::Selector};

/// The commands of `reservd reservation`.
#[derive(Debug, Subcommand)]
pub enum ReservationCommand {
    /// List the reservations of an event, of a user, or of a user at an event
    List(read::List),
    /// Show a reservation
    Show(read::Show),
    /// Hold units of an event for a user
    Reserve(change::Reserve),
    /// Confirm a hold
    Confirm(change::Confirm),
    /// Cancel a reservation, or some of its units
    Cancel(change::Cancel),
    /// Give a hold more time
    Extend(change::Extend),
}

impl ReservationCommand {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Reserve(reserve) => reserve.run().await,
            Self::Confirm(confirm) => confirm.run().await,
            Self::Cancel(cancel) => cancel.run().await,
            Self::Extend(extend) => extend.run().await,
        }
    }
}

/// One reservation of an event.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
struct Which {
    /// The event
    #[arg(value_name = "EVENT")]
    event_id: String,
    /// The user whose live reservation it is, or else whose newest
    #[arg(value_name = "USER", group = "which")]
    user_id: Option<String>,
    /// The id of the reservation, in place of its user
    #[arg(long = "id", value_name = "RESERVATION", group = "which")]
    reservation_id: Option<String>,
}

impl Which {
    fn selector(&self) -> Option<ReservationSelector> {
        let by_id = self.reservation_id.clone().map(Selector::ReservationId);
        let selector = by_id.or_else(|| self.user_id.clone().map(Selector::UserId));
        selector.map(|selector| ReservationSelector { selector: Some(selector) })
    }
}

fn table() -> Table {
    Table::new(&[
        Column::Text("EVENT"),
        Column::Text("USER"),
        Column::Number("QUANTITY"),
        Column::Text("STATE"),
        Column::Text("EXPIRES"),
        Column::Text("CREATED"),
        Column::Text("RESERVATION"),
    ])
}

fn row(reservation: &Reservation) -> Vec<String> {
    vec![
        reservation.event_id.clone(),
        reservation.user_id.clone(),
        reservation.quantity.to_string(),
        text::name(reservation.state().as_str_name(), "RESERVATION_STATE_"),
        text::time(reservation.expire_time),
        text::time(reservation.create_time),
        reservation.reservation_id.clone(),
    ]
}
