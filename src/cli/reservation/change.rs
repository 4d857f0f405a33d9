//! The commands that change one reservation.

use std::time::Duration;

use clap::Args;
use prost::Message;

use super::{
    super::{
        client::{Answer, Client, Mutation, repeated, send},
        failure::Failure,
        settings::key_value,
        wire::Wire,
    },
    Which, row, table,
};
use crate::rpc::pb::{
    CancelRequest, ConfirmRequest, ExecutionReport, ExtendRequest, Reservation, ReserveRequest,
    reservation_service_client::ReservationServiceClient,
};

/// The options of every command that changes one reservation.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    mutation: Mutation,
    #[command(flatten)]
    client: Client,
}

/// A reservation that exists, as its caller has read it.
#[derive(Debug, Args)]
struct Existing {
    #[command(flatten)]
    which: Which,
    /// Only if this is still its etag, which `reservation show` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// The options of `reservd reservation reserve`.
#[derive(Debug, Args)]
pub struct Reserve {
    /// The event
    #[arg(value_name = "EVENT")]
    event_id: String,
    /// The user
    #[arg(value_name = "USER")]
    user_id: String,
    /// How many units
    #[arg(long, value_name = "N", default_value_t = 1)]
    quantity: i32,
    /// How long they are held [default: as the event says]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "confirm")]
    ttl: Option<Duration>,
    /// Confirm them at once
    #[arg(long)]
    confirm: bool,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    common: Common,
}

/// The options of `reservd reservation confirm`.
#[derive(Debug, Args)]
pub struct Confirm {
    #[command(flatten)]
    existing: Existing,
    /// Confirm only this many units, and free the rest
    #[arg(long, value_name = "N")]
    quantity: Option<i32>,
    #[command(flatten)]
    common: Common,
}

/// The options of `reservd reservation cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    existing: Existing,
    /// Cancel only this many units, and keep the rest
    #[arg(long, value_name = "N")]
    quantity: Option<i32>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    common: Common,
}

/// The options of `reservd reservation extend`.
#[derive(Debug, Args)]
pub struct Extend {
    #[command(flatten)]
    existing: Existing,
    /// How long it is held from now on [default: as the event says]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

impl Common {
    async fn connect(&self) -> Result<(ReservationServiceClient<Wire>, String, bool), Failure> {
        let client = ReservationServiceClient::new(self.client.target.connect().await?);
        Ok((client, self.mutation.request_id(), self.mutation.dry_run))
    }

    fn report<M: Message>(
        &self,
        request_id: &str,
        name: &str,
        message: &M,
        reservation: Option<&Reservation>,
        execution: Option<&ExecutionReport>,
    ) -> Result<(), Failure> {
        let answer = Answer { name, message, execution };
        self.mutation.report(self.client.format, request_id, &answer, || {
            let mut table = table();
            reservation.into_iter().for_each(|reservation| table.row(row(reservation)));
            table
        })
    }
}

/// A duration as a message.
fn span(duration: Option<Duration>) -> Result<Option<prost_types::Duration>, Failure> {
    let converted = duration.map(prost_types::Duration::try_from).transpose();
    Ok(converted.map_err(|_| "--ttl is too long")?)
}

impl Reserve {
    /// Reserves.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let request = ReserveRequest {
            event_id: self.event_id,
            user_id: self.user_id,
            quantity: self.quantity,
            hold_ttl: span(self.ttl)?,
            confirm: self.confirm,
            labels: self.label.into_iter().collect(),
            request_id: id.clone(),
            validate_only,
            ..Default::default()
        };
        let answer = send(&repeated(&id), client.reserve(request)).await?;
        let (reservation, execution) = (answer.reservation.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.ReserveResponse", &answer, reservation, execution)
    }
}

impl Confirm {
    /// Confirms.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let request = ConfirmRequest {
            reservation: self.existing.which.selector(),
            event_id: self.existing.which.event_id,
            quantity: self.quantity,
            etag: self.existing.etag,
            request_id: id.clone(),
            validate_only,
            ..Default::default()
        };
        let answer = send(&repeated(&id), client.confirm(request)).await?;
        let (reservation, execution) = (answer.reservation.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.ConfirmResponse", &answer, reservation, execution)
    }
}

impl Cancel {
    /// Cancels.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let request = CancelRequest {
            reservation: self.existing.which.selector(),
            event_id: self.existing.which.event_id,
            quantity: self.quantity,
            reason: self.reason,
            etag: self.existing.etag,
            request_id: id.clone(),
            validate_only,
            ..Default::default()
        };
        let answer = send(&repeated(&id), client.cancel(request)).await?;
        let (reservation, execution) = (answer.reservation.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.CancelResponse", &answer, reservation, execution)
    }
}

impl Extend {
    /// Extends.
    pub async fn run(self) -> Result<(), Failure> {
        let (mut client, id, validate_only) = self.common.connect().await?;
        let request = ExtendRequest {
            reservation: self.existing.which.selector(),
            event_id: self.existing.which.event_id,
            ttl: span(self.ttl)?,
            etag: self.existing.etag,
            request_id: id.clone(),
            validate_only,
            ..Default::default()
        };
        let answer = send(&repeated(&id), client.extend(request)).await?;
        let (reservation, execution) = (answer.reservation.as_ref(), answer.execution.as_ref());
        self.common.report(&id, "reservd.v1.ExtendResponse", &answer, reservation, execution)
    }
}
