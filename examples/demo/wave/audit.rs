//! The audit after the wave: every flight is verified, and every acknowledged answer is found again.

use std::{collections::BTreeMap, time::Duration};

use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use reservd::rpc::pb::{
    ListReservationsRequest, Reservation, ReservationState, VerifyEventRequest, VerifyEventResponse,
    event_service_client::EventServiceClient, reservation_service_client::ReservationServiceClient,
};
use tokio::time::{Instant, sleep};
use tonic::{Status, transport::Channel};

use super::{Flight, Plan, tally::Tally, traveller::SHORT_HOLD};

/// Questions asked at once.
const AT_ONCE: usize = 32;
/// How long the expiry worker may take to release lapsed holds. It takes about a second.
const RELEASED_WITHIN: Duration = Duration::from_secs(20);

/// How many reservations, and how many seats in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub reservations: u64,
    pub seats: i64,
}

/// The result of the audit.
#[derive(Debug, Default)]
pub struct Audit {
    /// Flights whose counters, reservations and changes agree.
    pub clean_flights: usize,
    pub flights: usize,
    /// Of all the flights: seats in all, in confirmed reservations, and in holds.
    pub seats: i64,
    pub confirmed: i64,
    pub held: i64,
    /// The wave's reservations.
    pub by_state: BTreeMap<ReservationState, Sum>,
    /// Acknowledged reservations that were found as acknowledged.
    pub found_again: usize,
    pub problems: Vec<String>,
}

pub async fn check(plan: &Plan, channel: &Channel, tally: &Tally, bar: &ProgressBar) -> Result<Audit, Status> {
    bar.set_length(bar.length().unwrap_or(0) + (plan.flights.len() + plan.travellers) as u64);
    let mut audit = Audit::default();
    // Until the last hold that is meant to lapse has done so.
    sleep(SHORT_HOLD).await;
    let flights = stream::iter(&plan.flights).map(|flight| async move {
        let verified = verify(&flight.event_id, channel).await?;
        bar.inc(1);
        Ok::<_, Status>((flight, verified))
    });
    let flights: Vec<_> = flights.buffer_unordered(AT_ONCE).try_collect().await?;
    for (flight, verified) in &flights {
        audit.enter_flight(flight, verified);
    }

    let users = stream::iter(0..plan.travellers).map(|number| async move {
        let reservations = of_user(&format!("{}-{number}", plan.name), channel).await?;
        bar.inc(1);
        Ok::<_, Status>(reservations)
    });
    let recorded: Vec<Vec<Reservation>> = users.buffer_unordered(AT_ONCE).try_collect().await?;
    for reservation in recorded.iter().flatten() {
        audit.enter_reservation(reservation, tally);
    }
    let (told, recorded) = (tally.acknowledged.len(), recorded.iter().map(Vec::len).sum::<usize>());
    if told != recorded {
        audit.problems.push(format!("{told} reservations were acknowledged, {recorded} are recorded"));
    }
    Ok(audit)
}

impl Audit {
    fn enter_flight(&mut self, flight: &Flight, verified: &VerifyEventResponse) {
        let event_id = &flight.event_id;
        self.flights += 1;
        self.seats += i64::from(flight.capacity);
        self.confirmed += counted(verified, "confirmed");
        self.held += counted(verified, "held");
        if verified.ok {
            self.clean_flights += 1;
        }
        self.problems.extend(verified.problems.iter().map(|problem| format!("{event_id}: {problem}")));
        if verified.lapsed > 0 {
            self.problems.push(format!("{event_id}: holds of {} seats lapsed, not released", verified.lapsed));
        }
    }

    fn enter_reservation(&mut self, recorded: &Reservation, tally: &Tally) {
        let sum = self.by_state.entry(recorded.state()).or_default();
        sum.reservations += 1;
        sum.seats += i64::from(recorded.quantity);
        match tally.acknowledged.get(&recorded.reservation_id) {
            Some(told) if is_as_told(recorded, told) => self.found_again += 1,
            Some(told) => self.problems.push(format!("acknowledged as {told:?}, recorded as {recorded:?}")),
            None => self.problems.push(format!("no caller was answered {recorded:?}")),
        }
    }
}

/// What the service counted in the rows of a flight for the counter of this name.
fn counted(verified: &VerifyEventResponse, name: &str) -> i64 {
    verified.checks.iter().find(|check| check.name == name).map_or(0, |check| check.counted)
}

/// Whether the reservation is as the last answer said; only a hold may have lapsed since.
fn is_as_told(recorded: &Reservation, told: &Reservation) -> bool {
    if (told.state(), recorded.state()) == (ReservationState::Held, ReservationState::Expired) {
        return recorded.version > told.version && recorded.quantity == told.quantity;
    }
    recorded == told
}

/// Verifies a flight, once what has lapsed there is released.
async fn verify(event_id: &str, channel: &Channel) -> Result<VerifyEventResponse, Status> {
    let mut client = EventServiceClient::new(channel.clone());
    let asked = Instant::now();
    loop {
        let verified = client.verify_event(VerifyEventRequest { event_id: event_id.into() }).await?.into_inner();
        if verified.lapsed == 0 || asked.elapsed() > RELEASED_WITHIN {
            return Ok(verified);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// All that a user ever reserved.
async fn of_user(user_id: &str, channel: &Channel) -> Result<Vec<Reservation>, Status> {
    let mut client = ReservationServiceClient::new(channel.clone());
    let mut request = ListReservationsRequest { user_id: user_id.into(), ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = client.list_reservations(request.clone()).await?.into_inner();
        all.extend(page.reservations);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
