//! Tests of `page_token`.

use serde_json::json;

use super::*;
use crate::{
    domain::{ids::EventId, time::Timestamp},
    rpc::pb::ListReservationsRequest,
};

#[test]
fn a_forged_token_holds_only_valid_values() {
    let filters = ListReservationsRequest::default();
    let forged = |cursor: serde_json::Value| encode(&filters, &cursor);
    for time in [i64::MIN, i64::MAX, 253_402_300_800_000_000] {
        assert_eq!(decode::<(Option<Timestamp>, EventId)>(&filters, &forged(json!([time, "a"]))), None, "{time}");
    }
    for id in ["", "a\0", "a b", &"x".repeat(129)] {
        assert_eq!(decode::<(Option<Timestamp>, EventId)>(&filters, &forged(json!([0, id]))), None, "{id:?}");
    }
    assert!(decode::<(Option<Timestamp>, EventId)>(&filters, &forged(json!([0, "a"]))).is_some());
}

#[test]
fn a_token_works_for_its_own_filters_only() {
    let mine = ListReservationsRequest { user_id: "ann".into(), ..Default::default() };
    let other = ListReservationsRequest { user_id: "bob".into(), ..Default::default() };
    let token = encode(&mine, &("event", 7));
    assert_eq!(decode::<(String, i32)>(&mine, &token), Some(("event".into(), 7)));
    assert_eq!(decode::<(String, i32)>(&other, &token), None);
    for broken in ["", "x", "%%%", &token[1..], &"A".repeat(5000)] {
        assert_eq!(decode::<(String, i32)>(&mine, broken), None, "{broken:?}");
    }
}
