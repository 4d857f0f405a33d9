//! How long answers are remembered: as long as the setting says, and an event's newest for good.

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
async fn changes_older_than_the_retention_are_forgotten_and_no_others() {
    let server = TestServer::with(&[DAY]).await;
    for event_id in ["old", "half-old", "young"] {
        server.event(event_id, 5).await;
        reserve_and_cancel(&server, event_id).await;
    }
    age(&server, "old", 3, "25 hours").await;
    age(&server, "half-old", 2, "25 hours").await;
    age(&server, "young", 3, "23 hours").await;

    // A server looks for old changes when it starts; the first one may be at it still.
    let twin = server.twin_with(&[DAY]).await;
    eventually("old changes are forgotten", async || {
        versions(&server, "old").await == [3] && versions(&server, "half-old").await == [3]
    })
    .await;
    assert_eq!(versions(&server, "young").await, [1, 2, 3]);
    let forgotten = [&server, &twin].map(|at| at.metric("reservd_changes_forgotten_total"));
    assert_eq!(all(forgotten).await.iter().sum::<f64>(), 4.0, "as the metrics tell");
    for event_id in ["old", "half-old", "young"] {
        let request = pb::VerifyEventRequest { event_id: event_id.into() };
        let books = server.events().verify_event(request).await.expect("the event is there").into_inner();
        assert!(books.ok, "what was forgotten is not missed: {:?}", books.problems);
    }

    // What is forgotten can be asked again; what is not, is answered from memory.
    let request = pb::ReserveRequest { request_id: "take".into(), ..reserve("young", "ann") };
    assert!(server.reserve(request.clone()).await.expect("it was done").execution.replayed);
    let request = pb::ReserveRequest { event_id: "old".into(), ..request };
    let again = server.reserve(request).await.expect("there is room");
    assert_eq!((again.execution.replayed, again.execution.event_version), (false, 4));
    let request = pb::ReserveRequest { request_id: "give".into(), ..reserve("half-old", "ann") };
    assert_refused(server.reserve(request).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    twin.app.stop().await;
    // The histories of two events begin late by now, which the usual last check would take for a loss.
    server.app.stop().await;
}
