//! Every server refuses a revoked session, and its streams end.

use redis::AsyncCommands;
use reservd::rpc::pb::{self, Role};
use tonic::Code;

use super::{ask, guarded, guarded_with, on, open, revoke, wish};
use crate::support::{Client, Guarded, Proxy, TestRedis, Watcher, all, assert_refused, eventually, reason, watch_of};

/// A watch of an event after its snapshot.
async fn watch(client: &Client, event_id: &str) -> Watcher {
    let request = watch_of(event_id, None);
    let messages = client.feed().watch_changes(request).await.expect("it can be watched").into_inner();
    let mut watcher = Watcher::new(messages, 0);
    watcher.receive().await.expect("a snapshot").expect("comes first");
    watcher
}

/// Waits until a server receives revocations.
async fn listens(server: &crate::support::TestServer) {
    eventually("it hears what is revoked", async || server.metric("reservd_sessions_subscribed").await == 1.0).await;
}

#[tokio::test]
async fn a_revoked_session_is_refused_on_every_server_and_its_streams_end() {
    let (guarded, redis) = guarded().await;
    let other = guarded.twin_with(&redis.settings()).await;
    listens(&guarded.server).await;
    listens(&other).await;
    guarded.event("concert", 5).await;
    let (token, session) = open(&guarded, wish("eye", &[Role::Reader])).await;
    let (here, there) = (guarded.with_token(&token), Client::new(other.channel(), &token));
    ask(&here).await.expect("here");
    ask(&there).await.expect("there");
    let (mut watch_here, mut watch_there) = (watch(&here, "concert").await, watch(&there, "concert").await);
    // One lookup on each server: a cached session needs none.
    let asked = other.metric("reservd_session_lookups_total{outcome=\"good\"}").await;
    for _ in 0..20 {
        ask(&there).await.expect("it is known");
    }
    assert_eq!(other.metric("reservd_session_lookups_total{outcome=\"good\"}").await, asked);

    revoke(&guarded.caller("root", &["admin"]), &session).await.expect("revoked");
    assert_refused(ask(&here).await, Code::Unauthenticated, "SESSION_ENDED");
    eventually("the other server refuses it", async || ask(&there).await.is_err()).await;
    assert_refused(ask(&there).await, Code::Unauthenticated, "SESSION_ENDED");
    for watcher in [&mut watch_here, &mut watch_there] {
        assert_eq!(reason(&watcher.failure().await), "CREDENTIALS_ENDED");
    }
    let again = revoke(&guarded.caller("root", &["admin"]), &session).await;
    assert_refused(again, Code::NotFound, "SESSION_NOT_FOUND");
    other.app.stop().await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn all_sessions_of_a_user_end_at_once_and_no_others() {
    let (guarded, redis) = guarded().await;
    let mut hers = Vec::new();
    for _ in 0..3 {
        hers.push(guarded.with_token(&open(&guarded, wish("ann", &[])).await.0));
    }
    let bob = guarded.with_token(&open(&guarded, wish("bob", &[])).await.0);
    for client in hers.iter().chain([&bob]) {
        ask(client).await.expect("good");
    }
    let request = pb::RevokeUserSessionsRequest { user_id: "ann".into(), ..Default::default() };
    let admin = guarded.caller("root", &["admin"]);
    assert_eq!(
        admin.sessions().revoke_user_sessions(request.clone()).await.expect("done").into_inner().revoked_session_count,
        3
    );
    for client in &hers {
        eventually("it ends", async || ask(client).await.is_err()).await;
    }
    ask(&bob).await.expect("bob's is good");
    assert_eq!(redis.dump().await.len(), 3, "bob's session, and the lists of bob's and of the admin's");
    assert_eq!(
        admin.sessions().revoke_user_sessions(request).await.expect("done").into_inner().revoked_session_count,
        0
    );
    let later = guarded.with_token(&open(&guarded, wish("ann", &[])).await.0);
    ask(&later).await.expect("a session from after that is good");
    guarded.check_and_stop().await;
}

/// Two servers, the second of which connects to Redis through a proxy.
async fn far(settings: &[(&str, &str)]) -> (Guarded, crate::support::TestServer, Proxy) {
    let redis = TestRedis::new().await;
    let guarded = on(&redis, &[]).await;
    let proxy = Proxy::to(&redis.address()).await;
    let away = redis.through(proxy.address);
    let far = guarded.twin_with(&[&away.settings()[..], settings].concat()).await;
    listens(&far).await;
    (guarded, far, proxy)
}

#[tokio::test]
async fn a_revocation_during_a_lost_subscription_is_applied() {
    let (guarded, far, proxy) = far(&[]).await;
    guarded.event("concert", 5).await;
    let admin = guarded.caller("root", &["admin"]);
    let (token, session) = open(&guarded, wish("eye", &[Role::Reader])).await;
    let (kept, _) = open(&guarded, wish("ear", &[Role::Reader])).await;
    let (there, also) = (Client::new(far.channel(), &token), Client::new(far.channel(), &kept));
    ask(&there).await.expect("it is known");
    ask(&also).await.expect("it is known");
    let mut watcher = watch(&there, "concert").await;

    proxy.cut();
    revoke(&admin, &session).await.expect("revoked");
    // It misses the message, but stops trusting its cache when the connection is lost.
    eventually("the loss is noticed", async || far.metric("reservd_sessions_subscribed").await == 0.0).await;
    assert_refused(ask(&there).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    let status = watcher.failure().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SESSIONS_UNAVAILABLE"));
    proxy.open();
    eventually("Redis says so", async || ask(&there).await.is_err_and(|status| reason(&status) == "SESSION_ENDED"))
        .await;
    eventually("what is good is let in again", async || ask(&also).await.is_ok()).await;
    far.app.stop().await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_trusted_no_longer_than_a_lost_one() {
    let (guarded, far, proxy) = far(&[("sessions.time_limit", "300ms")]).await;
    guarded.event("concert", 5).await;
    let (token, session) = open(&guarded, wish("eye", &[Role::Reader])).await;
    let there = Client::new(far.channel(), &token);
    ask(&there).await.expect("it is known");
    let mut watcher = watch(&there, "concert").await;
    proxy.mute();
    revoke(&guarded.caller("root", &["admin"]), &session).await.expect("revoked");
    eventually("it is not let in", async || ask(&there).await.is_err()).await;
    assert_refused(ask(&there).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    assert_eq!(reason(&watcher.failure().await), "SESSIONS_UNAVAILABLE");
    proxy.cut();
    proxy.open();
    eventually("Redis says so", async || ask(&there).await.is_err_and(|status| reason(&status) == "SESSION_ENDED"))
        .await;
    far.app.stop().await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn an_expired_session_ends_its_streams_and_one_in_use_does_not() {
    let (guarded, redis) = guarded_with(&[("sessions.refresh_interval", "100ms")]).await;
    // The streams are on another server than the calls, so it reads the expiry from Redis.
    let other = guarded.twin_with(&redis.settings()).await;
    guarded.event("concert", 5).await;
    let short = |user_id: &str| pb::CreateSessionRequest {
        lifetime: crate::support::millis(1500),
        ..wish(user_id, &[Role::Reader])
    };
    let (used, unused) = (open(&guarded, short("eye")).await.0, open(&guarded, short("ear")).await.0);
    let there = |token: &str| Client::new(other.channel(), token);
    let (mut stays, mut ends) = (watch(&there(&used), "concert").await, watch(&there(&unused), "concert").await);
    let used = guarded.with_token(&used);
    let calls = async {
        loop {
            ask(&used).await.expect("it is used");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        status = ends.failure() => assert_eq!(reason(&status), "CREDENTIALS_ENDED"),
        () = calls => {}
    }
    // The other stream still receives changes.
    ask(&used).await.expect("it is good");
    let change = guarded.unguarded().reserve(crate::support::reserve("concert", "bob")).await.expect("a place");
    stays.until(change.execution.event_version).await;
    other.app.stop().await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_session_revoked_during_concurrent_calls_is_refused_afterwards() {
    let (guarded, _redis) = guarded().await;
    let admin = guarded.caller("root", &["admin"]);
    for _ in 0..20 {
        let (token, session) = open(&guarded, wish("ann", &[])).await;
        let client = guarded.with_token(&token);
        // It is not cached yet: the lookups are in flight when it is revoked.
        let calls = all((0..16).map(|_| ask(&client)));
        let (revoked, _) = tokio::join!(revoke(&admin, &session), calls);
        revoked.expect("revoked");
        for answer in all((0..4).map(|_| ask(&client))).await {
            assert_refused(answer, Code::Unauthenticated, "SESSION_ENDED");
        }
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_session_deleted_in_redis_without_a_message_ends_too() {
    let (guarded, redis) = guarded_with(&[("sessions.refresh_interval", "100ms")]).await;
    guarded.event("concert", 5).await;
    let mut connection = redis.connect().await;
    let delete = async |connection: &mut redis::aio::MultiplexedConnection, session: &pb::Session| {
        let key = format!("{}session:{}", redis.prefix, session.session_id);
        assert_eq!(connection.del::<_, i32>(key).await.expect("deleted"), 1);
    };
    let (token, session) = open(&guarded, wish("eye", &[Role::Reader])).await;
    let client = guarded.with_token(&token);
    ask(&client).await.expect("good");
    delete(&mut connection, &session).await;
    eventually("a call finds out", async || ask(&client).await.is_err()).await;
    assert_refused(ask(&client).await, Code::Unauthenticated, "SESSION_ENDED");

    let (token, session) = open(&guarded, wish("ear", &[Role::Reader])).await;
    let mut watcher = watch(&guarded.with_token(&token), "concert").await;
    delete(&mut connection, &session).await;
    assert_eq!(reason(&watcher.failure().await), "CREDENTIALS_ENDED");
    guarded.check_and_stop().await;
}
