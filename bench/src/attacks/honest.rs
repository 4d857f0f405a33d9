//! Honest callers: they reserve and cancel, at a fixed rate, on a few connections. A call counts from when it
//! was due, so that a server that stalls is charged for all who would have come meanwhile.

use std::time::Duration;

use hdrhistogram::Histogram;
use http::HeaderValue;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tonic::transport::Channel;

use super::{
    EVENT,
    server::{Attacked, request},
};
use crate::{
    Failure,
    pb::{
        CancelRequest, ReservationSelector, ReserveRequest, reservation_selector::Selector,
        reservation_service_client::ReservationServiceClient,
    },
};

/// Calls a second.
pub const RATE: u32 = 400;
const CONNECTIONS: usize = 4;

/// Their connections, and what they have to show.
pub struct Callers {
    clients: Vec<ReservationServiceClient<Channel>>,
    bearer: Option<HeaderValue>,
}

/// How long calls took.
pub struct Waits(Histogram<u64>);

impl Waits {
    pub fn p99(&self) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(0.99))
    }
}

impl Callers {
    pub async fn connect(attacked: &Attacked) -> Result<Self, Failure> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(ReservationServiceClient::new(attacked.connect().await?));
        }
        Ok(Self { clients, bearer: attacked.bearer() })
    }

    /// Calls for so long. Every call must succeed.
    pub async fn call(&self, duration: Duration) -> Result<Waits, Failure> {
        let (start, pause) = (Instant::now(), 2 * Duration::from_secs(1) / RATE);
        let mut calls = JoinSet::new();
        let mut due = start;
        while due < start + duration {
            sleep_until(due).await;
            let mut client = self.clients[calls.len() % self.clients.len()].clone();
            let bearer = self.bearer.clone();
            calls.spawn(async move {
                let user_id = format!("user-{:016x}", fastrand::u64(..));
                let reserve = ReserveRequest {
                    event_id: EVENT.into(),
                    user_id: user_id.clone(),
                    quantity: 1,
                    ..Default::default()
                };
                client.reserve(request(reserve, bearer.as_ref())).await?;
                let (reserved, begun) = (due.elapsed(), Instant::now());
                let reservation = Some(ReservationSelector { selector: Some(Selector::UserId(user_id)) });
                let cancel = CancelRequest { event_id: EVENT.into(), reservation, ..Default::default() };
                client.cancel(request(cancel, bearer.as_ref())).await?;
                Ok::<_, tonic::Status>([reserved, begun.elapsed()])
            });
            due += pause;
        }
        let mut waits = Histogram::new(3)?;
        while let Some(ended) = calls.join_next().await {
            for wait in ended?.map_err(|status| format!("an honest caller was refused: {status}"))? {
                waits.record(u64::try_from(wait.as_micros())?)?;
            }
        }
        Ok(Waits(waits))
    }
}
