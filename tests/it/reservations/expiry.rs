//! Lapsed holds: their units are free at once, and the expiry worker releases and records them.

use reservd::rpc::pb::*;
use tonic::Code;

use super::{confirm, get, hold, micros};
use crate::support::{STRATEGIES, TestServer, assert_refused, eventually, millis, of_user, reserve, with};

#[tokio::test]
async fn a_hold_lapses_by_itself_and_its_history_says_so() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let request = ReserveRequest { quantity: 2, hold_ttl: millis(100), ..reserve("e", "ann") };
    let held = server.reservations().reserve(request).await.expect("room").into_inner().reservation.expect("it");
    eventually("the hold is released", async || server.get_event("e").await.counts.unwrap_or_default().held == 0).await;

    let ended = get(&server, "e", of_user("ann")).await;
    assert_eq!((ended.state(), ended.quantity, ended.version), (ReservationState::Expired, 2, 3));
    assert_eq!(ended.expire_time, held.expire_time, "it tells when it lapsed, not when that was noticed");
    assert!(micros(ended.update_time) >= micros(held.expire_time), "never released before its time");
    let event = server.get_event("e").await;
    assert_eq!((event.counts.unwrap_or_default().available, event.version), (5, 3));
    let history: Vec<(i64, String, Option<String>, Option<i32>)> =
        sqlx::query_as("SELECT version, kind, state, quantity FROM changes WHERE event_id = 'e' ORDER BY version")
            .fetch_all(&mut server.sql().await)
            .await
            .expect("the history can be read");
    let change = |version, kind: &str, state: Option<&str>, quantity| {
        (version, kind.to_owned(), state.map(str::to_owned), quantity)
    };
    let expected = [
        change(1, "EVENT_CREATED", None, None),
        change(2, "RESERVATION_HELD", Some("HELD"), Some(2)),
        change(3, "RESERVATION_EXPIRED", Some("EXPIRED"), Some(2)),
    ];
    assert_eq!(history, expected);
    hold(&server, "e", "ann", 5).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn units_of_lapsed_holds_can_be_reserved_before_expiry_runs() {
    for strategy in STRATEGIES {
        let server = TestServer::with(&[("expiry.interval", "1h")]).await;
        server.event("e", 6).await;
        for user in ["ann", "bob", "cid"] {
            hold(&server, "e", user, 2).await;
        }
        server.lapse_holds("e").await;
        let mut client = server.reservations();
        // The user's own lapsed hold is released, and as many of the others as are needed.
        let request = ReserveRequest { quantity: 3, options: with(strategy), ..reserve("e", "ann") };
        let made = client.reserve(request).await.expect("there is room").into_inner();
        assert_eq!(made.execution.expect("a report").event_version, 7, "two were released, one was made");
        assert_eq!(server.get_event("e").await.counts.unwrap_or_default().held, 5);
        let states =
            [("ann", ReservationState::Held), ("bob", ReservationState::Expired), ("cid", ReservationState::Held)];
        for (user, state) in states {
            assert_eq!(get(&server, "e", of_user(user)).await.state(), state, "{user}");
        }
        assert_refused(client.confirm(confirm("e", "cid")).await, Code::FailedPrecondition, "HOLD_EXPIRED");
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn a_thousand_holds_that_lapse_at_once_are_released() {
    let server = TestServer::with(&[("expiry.interval", "20ms"), ("expiry.batch", "300")]).await;
    for event_id in ["e0", "e1", "e2"] {
        server.event(event_id, 500).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let mut client = server.reservations();
        tasks.spawn(async move {
            for n in (lane..1000).step_by(8) {
                client.reserve(reserve(&format!("e{}", n % 3), &format!("user-{n}"))).await.expect("there is room");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(server.metric("reservd_expiry_delay_seconds_count").await, 0.0, "none has lapsed yet");
    for event_id in ["e0", "e1", "e2"] {
        server.lapse_holds(event_id).await;
    }
    eventually("all are released", async || server.metric("reservd_expiry_delay_seconds_count").await == 1000.0).await;
    for event_id in ["e0", "e1", "e2"] {
        let event = server.get_event(event_id).await;
        assert_eq!((event.counts.unwrap_or_default().held, event.counts.unwrap_or_default().available), (0, 500));
    }
    assert!(server.metric("reservd_expiry_delay_seconds_sum").await > 0.0);
    let expired: i64 = sqlx::query_scalar("SELECT count(*) FROM changes WHERE kind = 'RESERVATION_EXPIRED'")
        .fetch_one(&mut server.sql().await)
        .await
        .expect("a count");
    assert_eq!(expired, 1000, "each once");
    server.check_and_stop().await;
}
