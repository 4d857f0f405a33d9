//! Tests of the encodings.

use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::rpc::pb;

#[test]
fn json_is_canonical() {
    let request = pb::ReserveRequest {
        event_id: "show".into(),
        user_id: "ann".into(),
        quantity: 2,
        hold_ttl: Some(prost_types::Duration { seconds: 90, nanos: 500_000_000 }),
        ..Default::default()
    };
    let json = PayloadFormat::Json.write("reservd.v1.ReserveRequest", &request);
    let text = String::from_utf8(json.clone()).expect("text");
    assert_eq!(text, r#"{"eventId":"show","userId":"ann","quantity":2,"holdTtl":"90.500s"}"#);
    for body in [json.as_slice(), br#"{"event_id": "show", "user_id": "ann", "quantity": 2, "hold_ttl": "90.5s"}"#] {
        let read: pb::ReserveRequest = PayloadFormat::Json.read("reservd.v1.ReserveRequest", body).expect("readable");
        assert_eq!(read, request);
    }
}

#[test]
fn unknown_fields_and_malformed_json_are_refused() {
    for body in [r#"{"event": "show"}"#, r#"{"eventId": 7}"#, "{", "[]", r#"{} {}"#, ""] {
        let read = PayloadFormat::Json.read::<pb::ReserveRequest>("reservd.v1.ReserveRequest", body.as_bytes());
        read.expect_err(body);
    }
}

#[test]
fn a_status_has_its_details_in_json() {
    let mut details = ErrorDetails::new();
    details.set_error_info("SOLD_OUT", "reservd", [("asked".to_owned(), "2".to_owned())]);
    details.set_retry_info(Some(std::time::Duration::from_secs(1)));
    let status = tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "no", details);
    let status = tonic_types::pb::Status::decode(status.details()).expect("a status");
    let json = PayloadFormat::Json.write("google.rpc.Status", &status);
    let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(value["code"], 9);
    let found = value["details"].as_array().expect("details");
    assert!(found.iter().any(|one| one["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        && one["reason"] == "SOLD_OUT"
        && one["metadata"]["asked"] == "2"));
}
