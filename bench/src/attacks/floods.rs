//! Floods of valid calls: what a caller with an ordinary role may ask, asked by many at once of a table that has been
//! in use for long; and two more that need to know more of the server than its address.
//!
//! Each of these callers waits for its answer before it asks again.

use std::{net::SocketAddr, time::Duration};

use http::HeaderValue;
use reservd::auth::session_token::SessionToken;
use sqlx::PgConnection;
use tokio::{
    io::AsyncWriteExt,
    net::TcpSocket,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tonic::transport::Channel;

use super::{
    arsenal::ATTACKER,
    server::{Site, request},
};
use crate::{
    Failure,
    pb::{
        GetCallerRequest, GetEventRequest, GetWaitlistEntryRequest, ListChangesRequest, SearchReservationsRequest,
        VerifyEventRequest, WaitlistEntrySelector, caller_service_client::CallerServiceClient,
        event_service_client::EventServiceClient, feed_service_client::FeedServiceClient,
        reservation_service_client::ReservationServiceClient, waitlist_entry_selector::Selector,
        waitlist_service_client::WaitlistServiceClient,
    },
};

/// The callers, each on a connection of its own.
const CALLERS: usize = 48;
/// Half requests of one step, and how many stay open at most.
const HALF_REQUESTS: usize = 16;
const MAX_OPEN: usize = 1000;
/// The event with many reservations and as long a history, and the one with many who wait.
const FULL: &str = "full";
const QUEUE: &str = "queue";
const RESERVATIONS: i32 = 400_000;
const WAITING: i32 = 300_000;

/// The floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    VerifyEvent,
    SearchReservations,
    WaitlistPositions,
    UserHistory,
    UnknownSessions,
    Metadata,
    HalfRequests,
}

/// Where a server is.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub calls: SocketAddr,
    pub metrics: SocketAddr,
}

impl Flood {
    pub const ALL: [Self; 7] = [
        Self::VerifyEvent,
        Self::SearchReservations,
        Self::WaitlistPositions,
        Self::UserHistory,
        Self::UnknownSessions,
        Self::Metadata,
        Self::HalfRequests,
    ];

    /// What it does, and how much of that is one step.
    pub const fn about(self) -> &'static str {
        match self {
            Self::VerifyEvent => "48 readers verify an event of 400,000 reservations",
            Self::SearchReservations => "48 readers search 400,000 reservations by a prefix that all have",
            Self::WaitlistPositions => "48 users ask for their position behind some 300,000",
            Self::UserHistory => "48 users list their own changes in a history of 400,000",
            Self::UnknownSessions => "48 callers show tokens of sessions that nobody opened",
            Self::Metadata => "48 callers with 14 KB of metadata in each call",
            Self::HalfRequests => "begins requests of the metrics and does not end them: 16 a step",
        }
    }

    /// Steps a second: in each, the callers that have their answer ask again.
    pub const fn rate(self) -> u32 {
        match self {
            Self::VerifyEvent | Self::SearchReservations | Self::UnknownSessions => 10,
            Self::WaitlistPositions | Self::UserHistory | Self::Metadata => 5,
            Self::HalfRequests => 20,
        }
    }

    /// Floods a server until killed.
    pub async fn run(self, at: Addresses) -> Result<(), Failure> {
        let mut steps = interval(Duration::from_secs(1) / self.rate());
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self == Self::HalfRequests {
            let mut open = Vec::new();
            loop {
                steps.tick().await;
                for _ in 0..HALF_REQUESTS {
                    open.extend(half_request(at.metrics).await);
                }
                open.drain(..open.len().saturating_sub(MAX_OPEN));
            }
        }
        let endpoint = Channel::from_shared(format!("http://{}", at.calls))?.local_address(Some(ATTACKER));
        let channels: Vec<_> = (0..CALLERS).map(|_| endpoint.connect_lazy()).collect();
        let mut calls: Vec<Option<JoinHandle<()>>> = channels.iter().map(|_| None).collect();
        loop {
            steps.tick().await;
            for (channel, call) in channels.iter().zip(&mut calls) {
                if call.as_ref().is_none_or(JoinHandle::is_finished) {
                    *call = Some(tokio::spawn(self.ask(channel.clone())));
                }
            }
        }
    }

    /// Makes one call, whatever its answer.
    async fn ask(self, channel: Channel) {
        let _ = match self {
            Self::VerifyEvent => {
                let message = VerifyEventRequest { event_id: FULL.into() };
                EventServiceClient::new(channel).verify_event(message).await.map(drop)
            }
            Self::SearchReservations => {
                let message =
                    SearchReservationsRequest { user_id_prefix: "user-".into(), page_size: 1, ..Default::default() };
                ReservationServiceClient::new(channel).search_reservations(message).await.map(drop)
            }
            Self::WaitlistPositions => {
                let selector = Some(Selector::UserId(user(fastrand::i32(WAITING - 1000..=WAITING))));
                let entry = Some(WaitlistEntrySelector { selector });
                let message = GetWaitlistEntryRequest { event_id: QUEUE.into(), entry };
                WaitlistServiceClient::new(channel).get_waitlist_entry(message).await.map(drop)
            }
            Self::UserHistory => {
                let message =
                    ListChangesRequest { event_id: FULL.into(), user_id: user(RESERVATIONS), ..Default::default() };
                FeedServiceClient::new(channel).list_changes(message).await.map(drop)
            }
            Self::UnknownSessions => {
                let token = SessionToken::new().map(|token| format!("Bearer {}", token.expose()));
                let bearer = token.and_then(|token| HeaderValue::try_from(token).ok());
                CallerServiceClient::new(channel)
                    .get_caller(request(GetCallerRequest {}, bearer.as_ref()))
                    .await
                    .map(drop)
            }
            Self::Metadata => {
                let mut message = request(GetEventRequest { event_id: FULL.into() }, None);
                for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"] {
                    // Random, so that no table of headers shortens it.
                    let value: String = (0..1000).map(|_| fastrand::alphanumeric()).collect();
                    message.metadata_mut().insert(name, value.parse().expect("letters and digits"));
                }
                EventServiceClient::new(channel).get_event(message).await.map(drop)
            }
            Self::HalfRequests => Ok(()),
        };
    }
}

fn user(number: i32) -> String {
    format!("user-{number}")
}

/// A connection with a request that does not end.
async fn half_request(address: SocketAddr) -> Option<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    // Not every system has this address.
    let _ = socket.bind(SocketAddr::new(ATTACKER, 0));
    let mut stream = socket.connect(address).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await.ok()?;
    Some(stream)
}

/// Fills the tables of a server that runs, as the server would have left them.
pub async fn fill(site: &Site) -> Result<(), Failure> {
    let (guest, mut sql) = site.sql().await?;
    fill_event(&mut sql).await?;
    let queue = include_str!("../sql/fill_waitlist.sql");
    sqlx::query(queue).bind(QUEUE).bind(WAITING).execute(&mut sql).await?;
    sqlx::raw_sql("VACUUM (ANALYZE) events, reservations, waitlist, changes").execute(&mut sql).await?;
    drop(sql);
    guest.stop().await?;
    Ok(())
}

async fn fill_event(sql: &mut PgConnection) -> Result<(), Failure> {
    let event = include_str!("../sql/fill_one_event.sql");
    sqlx::query(event).bind(FULL).bind(RESERVATIONS).execute(sql).await?;
    Ok(())
}
