//! The history names the actor of each change.

use reservd::rpc::pb;

use crate::support::{Guarded, TestServer, eventually, millis, of_user, reserve};

/// The kinds and actors of an event's changes, the oldest first.
async fn actors(server: &TestServer, event_id: &str) -> Vec<(String, Option<String>)> {
    let sql = "SELECT replace(kind, 'RESERVATION_', ''), actor FROM changes WHERE event_id = $1 ORDER BY version";
    sqlx::query_as(sql).bind(event_id).fetch_all(&mut server.sql().await).await.expect("the history can be read")
}

#[tokio::test]
async fn each_change_names_its_actor_and_expiry_has_none() {
    let guarded = Guarded::start().await;
    let (manager, shop, ann) =
        (guarded.caller("mia", &["event.manager"]), guarded.service("shop"), guarded.user("ann"));
    let event = pb::Event { event_id: "concert".into(), capacity: 3, ..Default::default() };
    manager
        .events()
        .create_event(pb::CreateEventRequest { event: Some(event), ..Default::default() })
        .await
        .expect("made");
    for strategy in crate::support::STRATEGIES {
        let options = crate::support::with(strategy);
        ann.reservations().reserve(pb::ReserveRequest { options, ..reserve("concert", "ann") }).await.expect("a place");
        let cancel = pb::CancelRequest {
            event_id: "concert".into(),
            reservation: of_user("ann"),
            options,
            ..Default::default()
        };
        shop.reservations().cancel(cancel).await.expect("for any user");
    }
    let short = pb::ReserveRequest { hold_ttl: millis(100), ..reserve("concert", "bob") };
    shop.reservations().reserve(short).await.expect("a place");
    let reader = guarded.unguarded();
    eventually("the hold lapses", async || {
        actors(reader, "concert").await.last().is_some_and(|(kind, _)| kind == "EXPIRED")
    })
    .await;
    ann.reservations().reserve(reserve("concert", "ann")).await.expect("a place");
    let cancel = pb::CancelEventRequest { event_id: "concert".into(), ..Default::default() };
    manager.events().cancel_event(cancel).await.expect("called off");

    let (mia, shop, ann) = (Some("token:mia"), Some("token:shop"), Some("token:ann"));
    let mut expected = vec![("EVENT_CREATED", mia)];
    expected.extend([("HELD", ann), ("CANCELLED", shop)].repeat(3));
    expected.extend([("HELD", shop), ("EXPIRED", None), ("HELD", ann), ("CANCELLED", mia), ("EVENT_CANCELLED", mia)]);
    let found = actors(reader, "concert").await;
    let found: Vec<_> = found.iter().map(|(kind, actor)| (kind.as_str(), actor.as_deref())).collect();
    assert_eq!(found, expected);
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn without_authentication_changes_have_no_actor() {
    let server = TestServer::start().await;
    server.event("concert", 3).await;
    server.reserve(reserve("concert", "ann")).await.expect("a place");
    assert!(actors(&server, "concert").await.iter().all(|(_, actor)| actor.is_none()));
    server.check_and_stop().await;
}
