//! Redis is unreachable, slow, changes its password, or uses TLS.

use reservd::{app::App, rpc::pb};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use super::{ask, guarded, on, open, revoke, wish, with_own_redis};
use crate::support::{
    Client, Guarded, PASSWORD, Proxy, TestDatabase, TestRedis, assert_refused, config, eventually, process::Process,
    reason, reserve,
};

#[tokio::test]
async fn while_redis_is_unreachable_only_other_tokens_are_accepted() {
    let (guarded, mut redis) = with_own_redis(&[]).await;
    guarded.event("concert", 5).await;
    let (token, session) = open(&guarded, wish("ann", &[])).await;
    let (ann, shop, root) = (guarded.with_token(&token), guarded.service("shop"), guarded.caller("root", &["admin"]));
    ask(&ann).await.expect("good");

    redis.kill().await;
    eventually("no session passes", async || ask(&ann).await.is_err()).await;
    for _ in 0..20 {
        let status = assert_refused(ask(&ann).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
        assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "when to come again");
    }
    let unknown = guarded.with_token(&format!("rs_{}", "A".repeat(43)));
    assert_refused(ask(&unknown).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    shop.reservations().reserve(reserve("concert", "bob")).await.expect("other tokens work");
    assert_refused(revoke(&root, &session).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    let create = root.sessions().create_session(wish("bob", &[])).await;
    assert_refused(create, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    let mut health = HealthClient::new(guarded.server.channel());
    let serving = health.check(HealthCheckRequest::default()).await.expect("it is in the answer").into_inner().status();
    assert_eq!(serving, tonic_health::pb::health_check_response::ServingStatus::Serving);
    eventually("the metrics tell", async || guarded.server.metric("reservd_sessions_subscribed").await == 0.0).await;

    redis.run().await;
    eventually("sessions are good again", async || ask(&ann).await.is_ok()).await;
    eventually("and known", async || guarded.server.metric("reservd_sessions_subscribed").await == 1.0).await;
    revoke(&root, &session).await.expect("revoked");
    assert_refused(ask(&ann).await, Code::Unauthenticated, "SESSION_ENDED");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_call_waits_for_redis_no_longer_than_the_time_limit() {
    let (guarded, redis) = with_own_redis(&[("sessions.time_limit", "200ms")]).await;
    let ann = guarded.with_token(&open(&guarded, wish("ann", &[])).await.0);
    ask(&ann).await.expect("good");
    redis.freeze();
    eventually("no session passes", async || ask(&ann).await.is_err()).await;
    // Far below the ten seconds of its deadline.
    let answer = tokio::time::timeout(std::time::Duration::from_secs(8), ask(&ann)).await.expect("an answer in time");
    assert_refused(answer, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    ask(&guarded.service("shop")).await.expect("other tokens work");
    redis.thaw();
    eventually("it is good again", async || ask(&ann).await.is_ok()).await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_server_starts_without_redis_and_connects_later() {
    let redis = TestRedis::new().await;
    let proxy = Proxy::to(&redis.address()).await;
    proxy.cut();
    let (near, far) = (on(&redis, &[]).await, redis.through(proxy.address));
    let server = near.twin_with(&far.settings()).await;
    let token = open(&near, wish("ann", &[])).await.0;
    let ann = Client::new(server.channel(), &token);
    assert_refused(ask(&ann).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    ask(&Client::new(server.channel(), &near.issuer.token("shop", &["service"]))).await.expect("other tokens work");
    proxy.open();
    eventually("it is found", async || ask(&ann).await.is_ok()).await;
    server.app.stop().await;
    near.check_and_stop().await;
}

#[tokio::test]
async fn tls_is_used_where_the_url_says_so() {
    let (guarded, redis) = guarded().await;
    let token = open(&guarded, wish("ann", &[])).await.0;
    let settings = [("sessions.url", redis.tls_url.as_str()), ("sessions.prefix", &redis.prefix)];
    let trusting = guarded.twin_with(&[&settings[..], &[("sessions.ca_file", &redis.authority)]].concat()).await;
    ask(&Client::new(trusting.channel(), &token)).await.expect("it is who it says");
    eventually("it hears by TLS too", async || trusting.metric("reservd_sessions_subscribed").await == 1.0).await;
    // The system does not trust the authority, so no request is sent.
    let wary = guarded.twin_with(&settings).await;
    let refused = ask(&Client::new(wary.channel(), &token)).await;
    assert_refused(refused, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    for server in [trusting, wary] {
        server.app.stop().await;
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn with_a_wrong_password_no_session_is_accepted() {
    let redis = TestRedis::new().await;
    let wrong = TestRedis { url: redis.url.replace(PASSWORD, "wrong"), ..redis.clone() };
    let (right, guarded) = (on(&redis, &[]).await, on(&wrong, &[]).await);
    let token = open(&right, wish("ann", &[])).await.0;
    let status = assert_refused(ask(&guarded.with_token(&token)).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    assert!(!format!("{status:?}").contains("wrong"), "{status:?}");
    ask(&guarded.service("shop")).await.expect("other tokens work");
    for guarded in [right, guarded] {
        guarded.check_and_stop().await;
    }
}

#[tokio::test]
async fn invalid_settings_are_reported_at_once_and_without_their_secret() {
    let database = TestDatabase::new().await;
    for (settings, why) in [
        (&[("sessions.url", "redis://:s3cret@bad host/0")][..], "sessions.url (REDIS_URL) is not a URL"),
        (
            &[("sessions.url", "rediss://:s3cret@h/0"), ("sessions.ca_file", "/nowhere")],
            "sessions.ca_file can't be used",
        ),
        (&[("sessions.url", "rediss://:s3cret@h/0"), ("sessions.ca_file", file!())], "sessions.ca_file can't be used"),
    ] {
        let told = App::start(&config(&database, settings)).await.map(drop).expect_err(why).to_string();
        assert!(told.contains(why) && !told.contains("s3cret"), "{told}");
    }
}

#[tokio::test]
async fn a_redis_without_tls_on_another_machine_is_warned_of() {
    let database = TestDatabase::new().await;
    // These addresses are for documents; nothing answers there.
    for (url, is_exposed) in [
        ("redis://192.0.2.1:6379", true),
        ("redis://redis.invalid", true),
        ("rediss://192.0.2.1:6379", false),
        ("redis://127.0.0.9:1", false),
        ("redis://[::1]:1", false),
        ("redis://localhost:1", false),
    ] {
        let server = Process::on(&database.url, &[&format!("sessions.url={url}")]).await;
        let log = [server.log().join("\n"), server.stop().await.join("\n")].concat();
        assert_eq!(log.contains("without TLS to another machine"), is_exposed, "{url}: {log}");
    }
}

#[tokio::test]
async fn sessions_alone_are_authentication() {
    let redis = TestRedis::new().await;
    let (guarded, plain) = (on(&redis, &[]).await, Guarded::start().await);
    let token = open(&guarded, wish("ann", &[])).await.0;
    // JWTs are not accepted, nor are calls without a token.
    let server = plain.unguarded().twin_with(&redis.settings()).await;
    ask(&Client::new(server.channel(), &token)).await.expect("a session");
    let jwt = Client::new(server.channel(), &guarded.issuer.token("root", &["admin"]));
    let status = ask(&jwt).await.expect_err("no keys are set");
    assert_eq!((reason(&status).as_str(), &*crate::support::metadata(&status)["problem"]), ("TOKEN_INVALID", "KIND"));
    let anonymous = server.events().list_events(pb::ListEventsRequest::default()).await;
    assert_refused(anonymous, Code::Unauthenticated, "CREDENTIALS_MISSING");
    server.app.stop().await;
    for guarded in [guarded, plain] {
        guarded.check_and_stop().await;
    }
}

#[tokio::test]
async fn the_documented_permissions_in_redis_are_enough() {
    let redis = TestRedis::new().await;
    let text = include_str!("../../../docs/SECURITY.md");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("> ACL SETUSER reservd ")).expect("it names them");
    let name = redis.prefix.replace(':', "");
    let rights = line.replace("reservd:", &redis.prefix).replace(">...", ">rights");
    let mut grant = redis::cmd("ACL");
    grant.arg("SETUSER").arg(&name);
    rights.split_whitespace().for_each(|right| {
        grant.arg(right);
    });
    grant.exec_async(&mut redis.connect().await).await.expect("granted");
    let granted = TestRedis { url: redis.url.replace(&format!(":{PASSWORD}@"), &format!("{name}:rights@")), ..redis };
    let guarded = on(&granted, &[]).await;
    let (token, session) = open(&guarded, wish("ann", &[])).await;
    ask(&guarded.with_token(&token)).await.expect("good");
    eventually("it hears", async || guarded.server.metric("reservd_sessions_subscribed").await == 1.0).await;
    let root = guarded.caller("root", &["admin"]);
    assert_eq!(super::list(&root, "ann").await.len(), 1);
    revoke(&root, &session).await.expect("revoked");
    let all = pb::RevokeUserSessionsRequest { user_id: "ann".into(), ..Default::default() };
    root.sessions().revoke_user_sessions(all).await.expect("revoked");
    guarded.check_and_stop().await;
}
