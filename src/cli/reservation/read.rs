//! The commands that read reservations.

use clap::{Args, ValueEnum};

use super::{
    super::{
        call_error::failed,
        client::{Client, Paging},
        failure::Failure,
        output::{print, print_json},
        table::Table,
        text,
    },
    Which, row, table,
};
use crate::rpc::pb::{
    GetReservationRequest, ListReservationsRequest, Reservation, ReservationOrder, ReservationState,
    reservation_service_client::ReservationServiceClient,
};

/// The options of `reservd reservation list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only reservations of this event
    #[arg(long, value_name = "EVENT", default_value = "", hide_default_value = true, required_unless_present = "user")]
    event: String,
    /// Only reservations of this user
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// Only reservations in this state; may be repeated
    #[arg(long, value_enum)]
    state: Vec<State>,
    /// Their order; any but event-id needs --user
    #[arg(long, value_enum, default_value_t = Order::EventId)]
    order: Order,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    client: Client,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Held,
    Confirmed,
    Cancelled,
    Expired,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    EventId,
    StartTime,
    StartTimeDesc,
    NewestFirst,
}

impl From<Order> for i32 {
    fn from(order: Order) -> Self {
        match order {
            Order::EventId => ReservationOrder::EventId,
            Order::StartTime => ReservationOrder::StartTime,
            Order::StartTimeDesc => ReservationOrder::StartTimeDesc,
            Order::NewestFirst => ReservationOrder::NewestFirst,
        }
        .into()
    }
}

impl From<State> for i32 {
    fn from(state: State) -> Self {
        match state {
            State::Held => ReservationState::Held,
            State::Confirmed => ReservationState::Confirmed,
            State::Cancelled => ReservationState::Cancelled,
            State::Expired => ReservationState::Expired,
        }
        .into()
    }
}

impl List {
    /// Lists the reservations.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = ReservationServiceClient::new(self.client.target.connect().await?);
        let page = async |page_size, page_token| {
            let request = ListReservationsRequest {
                event_id: self.event.clone(),
                user_id: self.user.clone(),
                states: self.state.iter().copied().map(i32::from).collect(),
                page_size,
                page_token,
                order: self.order.into(),
            };
            let page = client.list_reservations(request).await?.into_inner();
            Ok((page.reservations, page.next_page_token))
        };
        self.client.format.list(self.paging, "reservd.v1.Reservation", page, table(), row).await
    }
}

/// The options of `reservd reservation show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    client: Client,
}

impl Show {
    /// Shows the reservation.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = ReservationServiceClient::new(self.client.target.connect().await?);
        let request =
            GetReservationRequest { event_id: self.which.event_id.clone(), reservation: self.which.selector() };
        let response = client.get_reservation(request).await.map_err(failed)?.into_inner();
        let reservation = response.reservation.unwrap_or_default();
        if self.client.format.json {
            return print_json("reservd.v1.Reservation", &reservation);
        }
        print(details(&reservation))
    }
}

fn details(reservation: &Reservation) -> Table {
    let fields = [
        ("event_id", reservation.event_id.clone()),
        ("user_id", reservation.user_id.clone()),
        ("reservation_id", reservation.reservation_id.clone()),
        ("state", text::name(reservation.state().as_str_name(), "RESERVATION_STATE_")),
        ("quantity", reservation.quantity.to_string()),
        ("expires", text::time(reservation.expire_time)),
        ("extensions", reservation.extension_count.to_string()),
        ("confirmed", text::time(reservation.confirm_time)),
        ("cancel_reason", reservation.cancel_reason.clone()),
        ("from_waitlist", if reservation.from_waitlist { "true".to_owned() } else { String::new() }),
        ("created", text::time(reservation.create_time)),
        ("updated", text::time(reservation.update_time)),
        ("version", reservation.version.to_string()),
        ("etag", reservation.etag.clone()),
    ];
    let labels = reservation.labels.iter().map(|(key, value)| (format!("label.{key}"), value.clone()));
    Table::of_pairs(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(labels))
}
