//! The whole table of errors: each reason is provoked on a real server, and its code and details are checked.

mod first_use;
mod refusals;
mod service;

use reservd::rpc::pb;
use tonic::Status;
use tonic_types::StatusExt;

use crate::support::{TestServer, of_user, own_metadata, reserve};

/// A server on which no hold expires during a test.
async fn without_expiry() -> TestServer {
    TestServer::with(&[("expiry.interval", "1h")]).await
}

/// A hold of `quantity` units.
async fn hold(server: &TestServer, event_id: &str, user_id: &str, quantity: i32) -> pb::Reservation {
    let request = pb::ReserveRequest { quantity, ..reserve(event_id, user_id) };
    server
        .reservations()
        .reserve(request)
        .await
        .expect("there is room")
        .into_inner()
        .reservation
        .expect("a reservation")
}

fn confirm(event_id: &str, user_id: &str) -> pb::ConfirmRequest {
    pb::ConfirmRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

fn cancel(event_id: &str, user_id: &str) -> pb::CancelRequest {
    pb::CancelRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

fn extend(event_id: &str, user_id: &str) -> pb::ExtendRequest {
    pb::ExtendRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

fn amend(event_id: &str, user_id: &str, quantity: i32) -> pb::AmendRequest {
    pb::AmendRequest {
        event_id: event_id.into(),
        reservation: of_user(user_id),
        quantity: Some(quantity),
        ..Default::default()
    }
}

/// Checks the metadata of a status, in the order of its keys.
#[track_caller]
fn assert_metadata(status: &Status, pairs: &[(&str, &str)]) {
    let wanted = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(own_metadata(status), wanted, "{status:?}");
}

/// Checks that a status names the event and the reason.
#[track_caller]
fn assert_precondition(status: &Status, reason: &str, event_id: &str) {
    let failed = status.get_details_precondition_failure().expect("a PreconditionFailure").violations;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].r#type.as_str(), failed[0].subject.as_str()), (reason, event_id));
    assert_eq!(failed[0].description, status.message());
}

/// Checks that a status says when to retry.
#[track_caller]
fn assert_retry(status: &Status) {
    let wait = status.get_details_retry_info().expect("a RetryInfo").retry_delay.expect("a time");
    assert!(!wait.is_zero(), "{status:?}");
}
