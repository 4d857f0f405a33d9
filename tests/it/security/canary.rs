//! Secrets in settings, keys and tokens appear in no log, error, span or metric, at any log level.

use reservd::rpc::pb;
use serde_json::json;
use tonic::{Request, metadata::AsciiMetadataValue};

use crate::support::{
    Collector, LogCapture, TestDatabase, Web,
    issuer::{AUDIENCE, ISSUER, Issuer, Signer, claims, header, part},
    process::{Process, TempFolder, clients, finish, program},
    reserve,
};

/// The planted secrets.
const CANARY: &str = "canary-7f3a";

#[tokio::test]
async fn secrets_are_printed_nowhere() {
    let (database, folder, issuer, mut capture) =
        (TestDatabase::new().await, TempFolder::new(), Issuer::new(), LogCapture::default());
    let collector = Collector::default();
    let web = Web::serve(&issuer.jwks().to_string()).await;
    let spans = collector.listen().await;
    let database_url = format!("{}&password={CANARY}", database.url);
    let jwks = format!("auth.jwks=http://{}/keys?code={CANARY}", web.address);
    let otlp = format!("telemetry.otlp_endpoint={spans}");
    let settings = [
        jwks.as_str(),
        &format!("auth.issuer={ISSUER}"),
        &format!("auth.audience={AUDIENCE}"),
        "auth.jwks_refresh=50ms",
        "auth.jwks_refetch_pause=10ms",
        "telemetry.log=debug",
        "telemetry.log_format=json",
        &otlp,
    ];
    let mut config = program(["config"]);
    settings.iter().for_each(|setting| {
        config.args(["--set", setting]);
    });
    config.env("DATABASE_URL", &database_url).env("RESERVD_TOKEN", CANARY);
    capture.add("config", format!("{:?}", finish(config).await));

    let server = Process::on(&database_url, &settings).await;
    capture.add("the log of the start", server.log().join("\n"));
    let (mut events, mut reservations) = clients(&server.connect().await);
    let with = |token: &str, message: pb::ListEventsRequest| {
        let mut request = Request::new(message);
        let bearer: AsciiMetadataValue = format!("Bearer {token}").parse().expect("a header's value");
        request.metadata_mut().insert("authorization", bearer);
        request
    };

    let sign = |header: &serde_json::Value, claims: &serde_json::Value| issuer.sign(&Signer::Ed25519, header, claims);
    let planted = |mut value: serde_json::Value, name: &str| {
        value[name] = json!(CANARY);
        value
    };
    // The parts of a valid token are secret too.
    let good = sign(&header(), &planted(claims("shop", &["service", "event.manager"]), "note"));
    let mut secrets: Vec<String> = good.split('.').skip(1).map(str::to_owned).collect();
    secrets.extend([CANARY.to_owned(), part(CANARY)]);
    capture.add_result(events.list_events(with(&good, pb::ListEventsRequest::default())).await);
    capture.add_result(
        events.list_events(with(&good, pb::ListEventsRequest { page_token: "x".into(), ..Default::default() })).await,
    );
    let mut wish = Request::new(reserve("nowhere", "ann"));
    wish.metadata_mut().insert("authorization", format!("Bearer {good}").parse().expect("a header's value"));
    capture.add_result(reservations.reserve(wish).await);

    let refused = [
        CANARY.to_owned(),
        format!("{CANARY}.{CANARY}.{CANARY}"),
        sign(&planted(header(), "kid"), &claims("ann", &["user"])),
        sign(&planted(header(), "alg"), &claims("ann", &["user"])),
        sign(&planted(header(), "typ"), &claims("ann", &["user"])),
        sign(&header(), &planted(claims("ann", &["user"]), "iss")),
        sign(&header(), &planted(claims("ann", &["user"]), "aud")),
        sign(&header(), &planted(claims("ann", &["user"]), "exp")),
        issuer.sign(&Signer::Bytes(CANARY.into()), &header(), &planted(claims("ann", &["user"]), "sub")),
        format!("{}{CANARY}", &good[..good.len() - CANARY.len()]),
    ];
    for token in &refused {
        secrets.push(token.clone());
        let answer = events.list_events(with(token, pb::ListEventsRequest::default())).await;
        assert!(answer.is_err(), "{token}");
        capture.add_result(answer);
    }
    let mut basic = Request::new(pb::ListEventsRequest::default());
    basic.metadata_mut().insert("authorization", format!("Basic {CANARY}").parse().expect("a header's value"));
    capture.add_result(events.list_events(basic).await);
    // The issuer fails, and its response is printed nowhere.
    for document in [None, Some(CANARY), Some("{\"keys\": [{\"kty\": \"canary-7f3a\"}]}")] {
        web.set(document);
        let requests = web.requests();
        crate::support::eventually("the keys are fetched", async || web.requests() > requests + 1).await;
    }

    let metrics = server.metrics().await;
    assert!(metrics.contains("reservd_calls_denied_total"), "{metrics}");
    capture.add("metrics", metrics);
    let log = server.stop().await.join("\n");
    assert!(log.contains("denied a call") && log.contains("cannot refresh the keys"), "{log}");
    capture.add("the log", log);
    let spans = collector.spans.lock().expect("no holder panics").clone();
    assert!(!spans.is_empty());
    capture.add("spans", format!("{spans:?}"));
    drop(folder);

    capture.assert_without(&secrets);
}
