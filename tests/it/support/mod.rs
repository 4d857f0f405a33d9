//! The small language in which the tests are written.

mod broker;
mod calls;
mod collector;
mod desk;
pub mod frames;
mod guarded;
pub mod http2;
mod inbox;
pub mod issuer;
mod locks;
mod mutations;
mod observer;
mod pg_proxy;
mod postgres;
pub mod process;
mod proxy;
mod raw;
mod redis;
mod said;
mod server;
mod stalls;
mod streams;
mod supervised;
mod waiting;
mod watcher;

use std::{collections::BTreeMap, time::Duration};

use reservd::rpc::pb;
use tokio::time::{Instant, interval, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;

pub use broker::{Rabbit, TestBroker};
pub use calls::Call;
pub use collector::Collector;
pub use desk::{Desk, Order, Reply};
pub use guarded::{Client, Guarded, Web};
pub use inbox::{Inbox, Letter, assert_in_order};
pub use locks::CONNECTIONS;
pub use mutations::{Answer, MIXES, PATIENT, all, by_turns, patient_and, sorted};
pub use observer::Observer;
pub use pg_proxy::PgProxy;
pub use postgres::TestDatabase;
pub use proxy::Proxy;
pub use raw::raw_call;
pub use redis::{PASSWORD, Redis, TestRedis};
pub use said::Said;
pub use server::{TestServer, config};
pub use stalls::{EVERY_LOCK, EVERY_ROW, EVERY_UPDATE, Stall};
pub use streams::{RawCall, RawClient};
pub use waiting::{entry_by_id, entry_of_user, join, skipping, strict};
pub use watcher::Watcher;

/// Longer than anything here takes on a busy machine; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again and again until the answer is yes.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    let mut turns = interval(Duration::from_millis(5));
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        turns.tick().await;
    }
}

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// The reason in a status, which every one of ours has.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "reservd");
    info.reason
}

/// The metadata of the reason in a status.
pub fn metadata(status: &Status) -> BTreeMap<String, String> {
    status.get_details_error_info().map(|info| info.metadata).unwrap_or_default().into_iter().collect()
}

/// The fields that a status names as bad, in order.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map_or_else(Vec::new, |bad| bad.field_violations);
    violations.into_iter().map(|violation| violation.field).collect()
}

/// What an answer must be: this code for this reason.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, why: &str) -> Status {
    let status = result.expect_err("this must be refused");
    assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status:?}");
    status
}

/// A request for one unit.
pub fn reserve(event_id: &str, user_id: &str) -> pb::ReserveRequest {
    pb::ReserveRequest { event_id: event_id.into(), user_id: user_id.into(), quantity: 1, ..Default::default() }
}

/// The reservation of a user.
pub fn of_user(user_id: &str) -> Option<pb::ReservationSelector> {
    let selector = pb::reservation_selector::Selector::UserId(user_id.into());
    Some(pb::ReservationSelector { selector: Some(selector) })
}

/// The reservation of this id.
pub fn by_id(reservation_id: &str) -> Option<pb::ReservationSelector> {
    let selector = pb::reservation_selector::Selector::ReservationId(reservation_id.into());
    Some(pb::ReservationSelector { selector: Some(selector) })
}

/// How to carry a mutation out.
pub fn with(strategy: pb::Strategy) -> Option<pb::ExecutionOptions> {
    Some(pb::ExecutionOptions { strategy: strategy.into(), ..Default::default() })
}

/// Every strategy.
pub const STRATEGIES: [pb::Strategy; 3] =
    [pb::Strategy::Pessimistic, pb::Strategy::Optimistic, pb::Strategy::Coalesced];

/// A span as a message.
pub fn millis(millis: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 })
}
