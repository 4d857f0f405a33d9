//! Retention: changes are kept as long as the setting says, and an event's newest change for ever.

use reservd::rpc::pb;
use tonic::Code;

use crate::support::{TestServer, all, assert_refused, eventually, of_user, reserve};

const DAY: (&str, &str) = ("retention.changes", "24h");

/// The versions that an event's history still has.
async fn versions(server: &TestServer, event_id: &str) -> Vec<i64> {
    let versions = sqlx::query_scalar("SELECT version FROM changes WHERE event_id = $1 ORDER BY version");
    versions.bind(event_id).fetch_all(&mut server.sql().await).await.expect("the history can be read")
}

async fn age(server: &TestServer, event_id: &str, up_to: i64, by: &str) {
    let age = "UPDATE changes SET change_time = change_time - $3::interval WHERE event_id = $1 AND version <= $2";
    let age = sqlx::query(age).bind(event_id).bind(up_to).bind(by);
    age.execute(&mut server.sql().await).await.expect("changes can be made old");
}

async fn reserve_and_cancel(server: &TestServer, event_id: &str) {
    let request = pb::ReserveRequest { request_id: "take".into(), ..reserve(event_id, "ann") };
    server.reserve(request).await.expect("there is room");
    let (event_id, reservation, request_id) = (event_id.into(), of_user("ann"), "give".into());
    let request = pb::CancelRequest { event_id, reservation, request_id, ..Default::default() };
    server.cancel(request).await.expect("there is one to cancel");
}

#[tokio::test]
async fn only_changes_older_than_the_retention_are_deleted() {
    let server = TestServer::with(&[DAY]).await;
    for event_id in ["old", "half-old", "young"] {
        server.event(event_id, 5).await;
        reserve_and_cancel(&server, event_id).await;
    }
    age(&server, "old", 3, "25 hours").await;
    age(&server, "half-old", 2, "25 hours").await;
    age(&server, "young", 3, "23 hours").await;

    // A server looks for old changes when it starts; the first server may still be deleting.
    let twin = server.twin_with(&[DAY]).await;
    eventually("old changes are deleted", async || {
        versions(&server, "old").await == [3] && versions(&server, "half-old").await == [3]
    })
    .await;
    assert_eq!(versions(&server, "young").await, [1, 2, 3]);
    eventually("the metrics tell", async || {
        let deleted = [&server, &twin].map(|at| at.metric("reservd_retention_changes_total"));
        all(deleted).await.iter().sum::<f64>() == 4.0
    })
    .await;
    for event_id in ["old", "half-old", "young"] {
        let request = pb::VerifyEventRequest { event_id: event_id.into() };
        let audit = server.events().verify_event(request).await.expect("the event is there").into_inner();
        assert!(audit.ok, "deleted changes are not missed: {:?}", audit.problems);
    }

    // A request_id whose change is deleted can be used again; the others are answered from the history.
    let request = pb::ReserveRequest { request_id: "take".into(), ..reserve("young", "ann") };
    assert!(server.reserve(request.clone()).await.expect("it was done").execution.replayed);
    let request = pb::ReserveRequest { event_id: "old".into(), ..request };
    let again = server.reserve(request).await.expect("there is room");
    assert_eq!((again.execution.replayed, again.execution.event_version), (false, 4));
    let request = pb::ReserveRequest { request_id: "give".into(), ..reserve("half-old", "ann") };
    assert_refused(server.reserve(request).await, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    twin.app.stop().await;
    // The histories of two events begin late now, which the final check would take for a loss.
    server.app.stop().await;
}

/// Reserves and cancels `rounds` times, with concurrent calls.
async fn a_long_history(server: &TestServer, event_id: &str, rounds: usize) {
    server.event(event_id, 1000).await;
    let lives = (0..rounds).map(async |number| {
        let user = format!("user-{number}");
        server.reserve(reserve(event_id, &user)).await.expect("there is room");
        let request =
            pb::CancelRequest { event_id: event_id.into(), reservation: of_user(&user), ..Default::default() };
        server.cancel(request).await.expect("there is one to cancel");
    });
    all(lives).await;
}

#[tokio::test]
async fn a_long_history_is_deleted_from_its_beginning_without_a_gap() {
    let server = TestServer::with(&[DAY]).await;
    a_long_history(&server, "long", 400).await;
    all((0..70).map(|number| server.event_with(pb::Event { event_id: format!("e{number}"), ..Default::default() })))
        .await;
    // As if the clock had been set back: an older change follows a newer one.
    age(&server, "long", 700, "25 hours").await;
    age(&server, "long", 300, "1 hour").await;
    let back = "UPDATE changes SET change_time = now() WHERE event_id = 'long' AND version = 650";
    sqlx::query(back).execute(&mut server.sql().await).await.expect("a change can be made young");
    let twins = [server.twin_with(&[DAY]).await, server.twin_with(&[DAY]).await];
    let mut sql = server.sql().await;
    eventually("old changes are deleted", async || {
        const SEEN: &str = "
            SELECT count(*), min(version), max(version) FROM changes WHERE event_id = 'long'";
        let (count, first, last): (i64, i64, i64) = sqlx::query_as(SEEN).fetch_one(&mut sql).await.expect("seen");
        assert_eq!((count, last), (last - first + 1, 801), "a gap");
        first == 701
    })
    .await;
    for twin in twins {
        twin.app.stop().await;
    }
    server.app.stop().await;
}

#[tokio::test]
async fn old_ended_reservations_are_deleted_and_live_ones_never() {
    let server = TestServer::with(&[("expiry.interval", "10ms")]).await;
    server.event("e", 10).await;
    for user in ["old-cancelled", "young-cancelled", "old-live"] {
        server.reserve(reserve("e", user)).await.expect("there is room");
    }
    let request = pb::ReserveRequest { hold_ttl: crate::support::millis(100), ..reserve("e", "old-expired") };
    server.reserve(request).await.expect("there is room");
    for user in ["old-cancelled", "young-cancelled"] {
        let request = pb::CancelRequest { event_id: "e".into(), reservation: of_user(user), ..Default::default() };
        server.cancel(request).await.expect("there is one to cancel");
    }
    eventually("the hold is released", async || server.get_event("e").await.counts.unwrap_or_default().held == 1).await;
    let age = "UPDATE reservations SET update_time = update_time - interval '25 hours' WHERE user_id LIKE 'old-%'";
    sqlx::query(age).execute(&mut server.sql().await).await.expect("reservations can be made old");
    let twin = server.twin_with(&[("retention.ended_reservations", "24h")]).await;
    let mut sql = server.sql().await;
    eventually("old reservations are deleted", async || {
        let left = sqlx::query_scalar("SELECT user_id FROM reservations ORDER BY user_id");
        let left: Vec<String> = left.fetch_all(&mut sql).await.expect("reservations can be read");
        left == ["old-live", "young-cancelled"]
    })
    .await;
    let deleted = "reservd_retention_reservations_total";
    eventually("the metrics tell", async || twin.metric(deleted).await == 2.0).await;
    assert_eq!(server.history("e", Some("old-expired")).await, ["HELD", "EXPIRED"], "its history has its own time");
    twin.app.stop().await;
    server.check_and_stop().await;
}
