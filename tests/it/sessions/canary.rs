//! Neither a session token nor the password of Redis appears in a log, an error, a span or a metric, at any log
//! level.

use reservd::rpc::pb;

use super::{ask, wish};
use crate::support::{
    Client, Collector, LogCapture, PASSWORD, Proxy, TestDatabase, TestRedis, eventually,
    issuer::{AUDIENCE, ISSUER, Issuer},
    process::{Process, TempFolder, finish, program},
};

const KEY: &str = "session-key-canary-51c09b7e8d23a4f0";

#[tokio::test]
async fn session_tokens_and_the_password_of_redis_are_printed_nowhere() {
    let (database, folder, issuer, redis) =
        (TestDatabase::new().await, TempFolder::new(), Issuer::new(), TestRedis::new().await);
    let (collector, mut capture, mut secrets) =
        (Collector::default(), LogCapture::default(), vec![PASSWORD.to_owned(), KEY.to_owned()]);
    let proxy = Proxy::to(&redis.address()).await;
    let jwks = folder.file("jwks.json", issuer.jwks().to_string());
    let spans = collector.listen().await;
    let url = redis.through(proxy.address).url;
    let settings = [
        format!("auth.jwks={jwks}"),
        format!("auth.issuer={ISSUER}"),
        format!("auth.audience={AUDIENCE}"),
        format!("sessions.prefix={}", redis.prefix),
        format!("sessions.url={url}"),
        format!("sessions.key={KEY}"),
        format!("telemetry.otlp_endpoint={spans}"),
        "telemetry.log=debug".to_owned(),
        "telemetry.log_format=json".to_owned(),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let mut config = program(["config"]);
    settings.iter().for_each(|setting| {
        config.args(["--set", setting]);
    });
    let printed = finish(config).await;
    assert!(printed.out.contains("redis://***@"), "{printed:?}");
    capture.add("config", format!("{printed:?}"));

    let server = Process::on(&database.url, &settings).await;
    capture.add("the log of the start", server.log().join("\n"));
    let channel = server.connect().await;
    let root = Client::new(channel.clone(), &issuer.token("root", &["admin"]));
    let opened = root.sessions().create_session(wish("ann", &[])).await.expect("a session").into_inner();
    capture.add("the answer, printed", format!("{opened:?}"));
    secrets.push(opened.token.trim_start_matches("rs_").to_owned());
    let ann = Client::new(channel.clone(), &opened.token);
    ask(&ann).await.expect("good");
    let me = ann.sessions().get_current_session(pb::GetCurrentSessionRequest {}).await.expect("who am I").into_inner();
    capture.add("what a session tells of itself", format!("{me:?}"));
    for bad in [opened.token.replace("rs_", "rs_x"), format!("rs_{}", "Q".repeat(43)), "rs_canary".to_owned()] {
        secrets.push(bad.trim_start_matches("rs_").to_owned());
        capture.add_refusal(ask(&Client::new(channel.clone(), &bad)).await);
    }
    proxy.cut();
    eventually("Redis is away", async || ask(&ann).await.is_err()).await;
    capture.add_refusal(ask(&ann).await);
    capture.add_refusal(root.sessions().create_session(wish("ann", &[])).await);
    proxy.open();
    eventually("and back", async || ask(&ann).await.is_ok()).await;
    let revoke = pb::RevokeCurrentSessionRequest {};
    eventually("she signs out", async || ann.sessions().revoke_current_session(revoke).await.is_ok()).await;
    capture.add_refusal(ask(&ann).await);

    let metrics = server.metrics().await;
    assert!(metrics.contains("reservd_session_lookups_total"), "{metrics}");
    capture.add("metrics", metrics);
    let log = server.stop().await.join("\n");
    assert!(log.contains("lost the connection to Redis") && log.contains("a session was created"), "{log}");
    capture.add("the log", log);

    // A wrong password is a secret too: often it is nearly the right one.
    let wrong = url.replace(PASSWORD, "canary-wrong");
    secrets.push("canary-wrong".to_owned());
    let settings =
        settings.map(|setting| if setting.starts_with("sessions.url=") { "sessions.max_per_user=7" } else { setting });
    let url = format!("sessions.url={wrong}");
    let server = Process::on(&database.url, &[&settings[..], &[&url]].concat()).await;
    let shop = Client::new(server.connect().await, &opened.token);
    capture.add_refusal(ask(&shop).await);
    let started = server.log().join("\n");
    let log = [started, server.stop().await.join("\n")].concat();
    assert!(log.contains("Redis refused"), "{log}");
    capture.add("the log of a wrong password", log);

    let spans = collector.spans.lock().expect("no holder panics").clone();
    assert!(!spans.is_empty());
    capture.add("spans", format!("{spans:?}"));
    capture.assert_without(&secrets);
}
