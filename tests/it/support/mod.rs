//! Helpers of the tests: servers, clients, faults and assertions.

mod amqp_queue;
mod broker;
mod calls;
mod collector;
mod command_client;
pub mod error_reasons;
mod guarded;
pub mod http2;
pub mod http2_frames;
pub mod issuer;
mod locks;
mod log_capture;
mod mutations;
mod observer;
mod pg_proxy;
mod postgres;
pub mod process;
mod proxy;
mod raw;
mod redis;
mod server;
mod stalls;
mod streams;
pub mod supervised;
mod waitlist_requests;
mod watcher;

use std::{collections::BTreeMap, time::Duration};

use reservd::rpc::pb;
use tokio::time::{Instant, interval, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

pub use amqp_queue::{AmqpQueue, ReceivedChange, assert_in_order};
pub use broker::{Rabbit, TestBroker};
pub use calls::Call;
pub use collector::Collector;
pub use command_client::{CommandClient, CommandMessage, Reply};
pub use guarded::{Client, Guarded, Web};
pub use locks::CONNECTIONS;
pub use log_capture::LogCapture;
pub use mutations::{Answer, MIXES, PATIENT, all, by_turns, patient_and, sorted};
pub use observer::Observer;
pub use pg_proxy::PgProxy;
pub use postgres::TestDatabase;
pub use proxy::Proxy;
pub use raw::{raw_call, raw_call_with};
pub use redis::{PASSWORD, Redis, TestRedis};
pub use server::{TestServer, config};
pub use stalls::{EVERY_LOCK, EVERY_ROW, EVERY_UPDATE, Stall};
pub use streams::{RawCall, RawClient};
pub use waitlist_requests::{entry_by_id, entry_of_user, join, skipping, strict};
pub use watcher::Watcher;

/// The timeout of every wait, longer than any takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Polls until the condition holds.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    let mut ticks = interval(Duration::from_millis(5));
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        ticks.tick().await;
    }
}

/// Waits for a future, and panics after the timeout.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// The reason in a status, which every error of reservd has.
pub fn reason(status: &Status) -> String {
    error_reasons::assert_as_described(status);
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "reservd");
    info.reason
}

/// The metadata of the ErrorInfo in a status.
pub fn metadata(status: &Status) -> BTreeMap<String, String> {
    status.get_details_error_info().map(|info| info.metadata).unwrap_or_default().into_iter().collect()
}

/// The same without the ids of what the call is about, which every status of such a call has, but for those that are
/// the reason's own.
pub fn own_metadata(status: &Status) -> BTreeMap<String, String> {
    let mut found = metadata(status);
    let own = match reason(status).as_str() {
        "ALREADY_RESERVED" => "reservation_id",
        "ALREADY_WAITING" => "entry_id",
        _ => "",
    };
    found.retain(|key, _| key == own || !error_reasons::COMMON.contains(&key.as_str()));
    found
}

/// The field violations of a status, in order.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map_or_else(Vec::new, |bad| bad.field_violations);
    violations.into_iter().map(|violation| violation.field).collect()
}

/// Asserts that a call fails with this code and reason.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, why: &str) -> Status {
    let status = result.expect_err("this must be refused");
    assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status:?}");
    status
}

/// A request to watch one event.
pub fn watch_of(event_id: &str, after_version: Option<i64>) -> pb::WatchChangesRequest {
    let watched = pb::WatchedEvent { event_id: event_id.into(), after_version };
    pb::WatchChangesRequest { events: vec![watched] }
}

/// A request_id that no other call has.
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A request for one unit.
pub fn reserve(event_id: &str, user_id: &str) -> pb::ReserveRequest {
    pb::ReserveRequest { event_id: event_id.into(), user_id: user_id.into(), quantity: 1, ..Default::default() }
}

/// Selects the reservation of a user.
pub fn of_user(user_id: &str) -> Option<pb::ReservationSelector> {
    let selector = pb::reservation_selector::Selector::UserId(user_id.into());
    Some(pb::ReservationSelector { selector: Some(selector) })
}

/// Selects the reservation with this id.
pub fn by_id(reservation_id: &str) -> Option<pb::ReservationSelector> {
    let selector = pb::reservation_selector::Selector::ReservationId(reservation_id.into());
    Some(pb::ReservationSelector { selector: Some(selector) })
}

/// The execution options for a strategy.
pub fn with(strategy: pb::ExecutionStrategy) -> Option<pb::ExecutionOptions> {
    Some(pb::ExecutionOptions { strategy: strategy.into(), ..Default::default() })
}

/// Every strategy.
pub const STRATEGIES: [pb::ExecutionStrategy; 3] =
    [pb::ExecutionStrategy::Pessimistic, pb::ExecutionStrategy::Optimistic, pb::ExecutionStrategy::Coalesced];

/// A duration as a message.
pub fn millis(millis: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 })
}
