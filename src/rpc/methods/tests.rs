//! Tests of `methods`.

use super::*;

#[test]
fn lists_and_batches_have_large_responses() {
    let large = with_large_responses(crate::rpc::pb::DESCRIPTORS);
    let mut large: Vec<_> = large.iter().filter_map(|path| path.rsplit('/').next()).collect();
    large.sort_unstable();
    let expected = [
        "BatchGetAvailability",
        "GetContentionReport",
        "ListChanges",
        "ListEventCounts",
        "ListEvents",
        "ListReservations",
        "ListSessions",
        "ListWaitlist",
        "SearchReservations",
        "VerifyEvent",
    ];
    assert_eq!(large, expected);
}

#[test]
fn every_costly_method_exists() {
    let all = paths(&[crate::rpc::pb::DESCRIPTORS], |_| true);
    assert!(COSTLY.iter().all(|path| all.contains(*path)), "{COSTLY:?}");
}
