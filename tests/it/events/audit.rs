//! Availability, and VerifyEvent on rows that were made wrong on purpose.

use reservd::rpc::pb::{self, *};
use sqlx::{AssertSqlSafe, Executor};
use tonic::Code;

use crate::support::{TestServer, assert_refused, reserve};

async fn availability(server: &TestServer, event_id: &str) -> Availability {
    let asked = server.events().get_availability(GetAvailabilityRequest { event_id: event_id.into() }).await;
    asked.expect("it is there").into_inner().availability.expect("an answer")
}

#[tokio::test]
async fn units_of_lapsed_holds_count_as_available() {
    let server = TestServer::with(&[("expiry.interval", "1h")]).await;
    server.event("e", 10).await;
    let mut client = server.reservations();
    client.reserve(ReserveRequest { quantity: 4, ..reserve("e", "lapsing") }).await.expect("there is room");
    server.lapse_holds("e").await;
    let held = client.reserve(ReserveRequest { quantity: 2, ..reserve("e", "ann") }).await.expect("there is room");
    let held = held.into_inner().reservation.expect("it");
    client.reserve(ReserveRequest { quantity: 1, confirm: true, ..reserve("e", "bob") }).await.expect("there is room");
    let event = server.get_event("e").await;
    assert_eq!(
        (event.counts.unwrap_or_default().held, event.counts.unwrap_or_default().available),
        (6, 3),
        "the counters keep units that are not released"
    );
    let expected = Availability {
        event_id: "e".into(),
        state: EventState::Open.into(),
        counts: Some(EventCounts { capacity: 10, held: 6, lapsed: Some(4), confirmed: 1, available: 7, waiting: 0 }),
        next_hold_expire_time: held.expire_time,
        next_hold_quantity: 2,
        event_version: event.version,
    };
    assert_eq!(availability(&server, "e").await, expected);
    // Units reported as available can be reserved.
    client.reserve(ReserveRequest { quantity: 7, ..reserve("e", "cid") }).await.expect("it was available");
    assert_eq!(availability(&server, "e").await.counts.unwrap_or_default().available, 0);
    let gone = server.events().get_availability(GetAvailabilityRequest { event_id: "gone".into() }).await;
    assert_refused(gone, Code::NotFound, "EVENT_NOT_FOUND");
    server.check_and_stop().await;
}

#[tokio::test]
async fn availability_is_in_the_order_of_the_request_and_names_missing_events() {
    let server = TestServer::start().await;
    for (id, capacity) in [("a", 1), ("b", 2), ("c", 3)] {
        server.event(id, capacity).await;
    }
    let event_ids = ["c", "gone", "a", "c", "never"].map(String::from).to_vec();
    let answer = server.events().batch_get_availability(BatchGetAvailabilityRequest { event_ids }).await;
    let answer = answer.expect("an answer").into_inner();
    let found: Vec<_> = answer
        .availabilities
        .iter()
        .map(|one| (one.event_id.as_str(), one.counts.unwrap_or_default().available))
        .collect();
    assert_eq!(found, [("c", 3), ("a", 1)]);
    assert_eq!(answer.missing_event_ids, ["gone", "never"]);
    server.check_and_stop().await;
}

/// An event on which every kind of drift can be planted.
const DRIFTS: [(&str, &str); 9] = [
    ("UPDATE events SET held = held + 1", "units counted as held"),
    ("UPDATE events SET confirmed = confirmed - 1", "units counted as confirmed"),
    ("UPDATE events SET held = -1", "-1 units counted as held"),
    ("UPDATE reservations SET quantity = 3 WHERE user_id = 'ann'", "units counted as held, 3 in rows"),
    ("UPDATE events SET capacity = 2", "oversold: 4 units reserved of 2"),
    ("UPDATE reservations SET user_id = 'ann'", "1 users have more than one live reservation"),
    ("UPDATE events SET version = version + 1", "the event is at version 4, its newest change at 3"),
    ("DELETE FROM changes WHERE version = 2", "1 changes are missing from the history"),
    ("UPDATE events SET state = 'CANCELLED'", "the event is cancelled, and 4 units are still reserved"),
];

#[tokio::test]
async fn verify_event_reports_every_kind_of_drift() {
    for (drift, problem) in DRIFTS {
        let server = TestServer::start().await;
        server.event("e", 5).await;
        let mut client = server.reservations();
        client.reserve(ReserveRequest { quantity: 2, ..reserve("e", "ann") }).await.expect("there is room");
        client.reserve(ReserveRequest { quantity: 2, confirm: true, ..reserve("e", "bob") }).await.expect("room");
        let verify = async || {
            let audit = server.events().verify_event(VerifyEventRequest { event_id: "e".into() }).await;
            audit.expect("it is there").into_inner()
        };
        let audit = verify().await;
        assert_eq!((audit.ok, audit.problems.len()), (true, 0));
        let told: Vec<_> = audit.checks.iter().map(|it| (it.name.as_str(), it.recorded, it.counted)).collect();
        assert_eq!(told, [("held", 2, 2), ("confirmed", 2, 2), ("waiting", 0, 0), ("version", 3, 3)]);
        assert_eq!((audit.event_version, audit.lapsed), (3, 0));

        let mut sql = server.sql().await;
        sql.execute(
            "ALTER TABLE events DROP CONSTRAINT events_never_oversold;
             ALTER TABLE reservations DROP CONSTRAINT reservations_one_live_per_user",
        )
        .await
        .expect("the guards can be taken away");
        sql.execute(AssertSqlSafe(drift)).await.expect("the drift can be planted");
        let audit = verify().await;
        assert!(!audit.ok && audit.problems.iter().any(|found| found.contains(problem)), "{drift}: {audit:?}");
        server.app.stop().await;
    }
}

#[tokio::test]
async fn verify_event_reports_lapsed_holds_that_are_not_released() {
    let server = TestServer::with(&[("expiry.interval", "1h")]).await;
    server.event_with(pb::Event { event_id: "e".into(), capacity: 5, ..Default::default() }).await;
    server.reservations().reserve(ReserveRequest { quantity: 2, ..reserve("e", "ann") }).await.expect("room");
    server.lapse_holds("e").await;
    let audit = server.events().verify_event(VerifyEventRequest { event_id: "e".into() }).await.expect("there");
    let audit = audit.into_inner();
    assert_eq!((audit.ok, audit.checks[0].counted, audit.lapsed), (true, 2, 2));
    server.check_and_stop().await;
}
