//! Keys change while the server runs, and invented key ids are cheap to refuse.

use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{
    Client, Guarded, Watcher, Web, all, assert_refused, eventually,
    issuer::{Issuer, Signer, claims, header},
    metadata, reason, watch_of,
};

async fn ask(client: &Client) -> Result<(), Status> {
    client.events().list_events(reservd::rpc::pb::ListEventsRequest::default()).await.map(drop)
}

/// A token signed by another issuer's Ed25519 key with this kid.
fn token_of(issuer: &Issuer, kid: &str) -> String {
    let mut header = header();
    header["kid"] = json!(kid);
    issuer.sign(&Signer::Ed25519, &header, &claims("ann", &["user"]))
}

/// A key set with one Ed25519 key with this kid.
fn jwks_of(issuer: &Issuer, kid: &str) -> String {
    let mut key = issuer.jwks()["keys"][0].clone();
    key["kid"] = json!(kid);
    json!({ "keys": [key] }).to_string()
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let old = Issuer::new();
    let web = Web::serve(&jwks_of(&old, "old")).await;
    let guarded = Guarded::with(&[("auth.jwks", &web.url()), ("auth.jwks_refetch_pause", "10ms")]).await;
    let old_client = guarded.with_token(&token_of(&old, "old"));
    ask(&old_client).await.expect("the old key");

    let new = Issuer::new();
    web.set(Some(&jwks_of(&new, "new")));
    let requests = web.requests();
    let client = guarded.with_token(&token_of(&new, "new"));
    eventually("the new key is fetched", async || ask(&client).await.is_ok()).await;
    assert!(web.requests() > requests);
    assert_eq!(reason(&ask(&old_client).await.expect_err("its key is withdrawn")), "TOKEN_INVALID");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn invented_key_ids_do_not_cause_a_fetch_each() {
    let issuer = Issuer::new();
    let web = Web::serve(&jwks_of(&issuer, "known")).await;
    let guarded = Guarded::with(&[("auth.jwks", &web.url()), ("auth.jwks_refetch_pause", "1h")]).await;
    let calls = (0..100).map(|number| guarded.with_token(&token_of(&issuer, &format!("invented-{number}"))));
    for answer in all(calls.map(|client| async move { ask(&client).await })).await {
        let status = assert_refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
        assert_eq!(metadata(&status)["problem"], "KEY");
    }
    assert_eq!(web.requests(), 1, "only the request at startup");
    ask(&guarded.with_token(&token_of(&issuer, "known"))).await.expect("a known key");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn keys_that_cannot_be_refreshed_stay_in_use_until_their_maximum_age() {
    let issuer = Issuer::new();
    let web = Web::serve(&jwks_of(&issuer, "key")).await;
    let settings = [
        ("auth.jwks", web.url()),
        ("auth.jwks_refresh", "20ms".to_owned()),
        ("auth.jwks_refetch_pause", "20ms".to_owned()),
        ("auth.jwks_max_age", "1500ms".to_owned()),
    ];
    let guarded = Guarded::with(&settings.each_ref().map(|(key, value)| (*key, value.as_str()))).await;
    let client = guarded.with_token(&token_of(&issuer, "key"));
    ask(&client).await.expect("good");
    for broken in [None, Some("<html>"), Some("{\"keys\": []}")] {
        web.set(broken);
        let requests = web.requests();
        eventually("a refresh fails", async || web.requests() > requests + 1).await;
        web.set(Some(&jwks_of(&issuer, "key")));
        eventually("the refresh is retried", async || web.requests() > requests + 3).await;
        ask(&client).await.expect("as before");
    }
    web.set(None);
    eventually("the keys are too old", async || {
        ask(&client)
            .await
            .is_err_and(|status| (status.code(), &*reason(&status)) == (Code::Unavailable, "KEYS_UNAVAILABLE"))
    })
    .await;
    web.set(Some(&jwks_of(&issuer, "key")));
    eventually("and there are new ones", async || ask(&client).await.is_ok()).await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_server_starts_without_its_issuer_and_denies_calls_until_it_has_keys() {
    let issuer = Issuer::new();
    let web = Web::serve("").await;
    web.set(None);
    let guarded = Guarded::with(&[("auth.jwks", &web.url()), ("auth.jwks_refresh", "20ms")]).await;
    let client = guarded.with_token(&token_of(&issuer, "key"));
    assert_refused(ask(&client).await, Code::Unavailable, "KEYS_UNAVAILABLE");
    web.set(Some(&jwks_of(&issuer, "key")));
    eventually("the keys are there", async || ask(&client).await.is_ok()).await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn changes_of_a_key_file_are_applied() {
    let guarded = Guarded::with(&[("auth.jwks_refresh", "20ms")]).await;
    let client = guarded.user("ann");
    ask(&client).await.expect("good");
    let other = Issuer::new();
    guarded.folder.file("jwks.json", other.jwks().to_string());
    let stranger = guarded.with_token(&other.token("ann", &["user"]));
    eventually("the new keys are in use", async || ask(&stranger).await.is_ok()).await;
    let status = assert_refused(ask(&client).await, Code::Unauthenticated, "TOKEN_INVALID");
    assert_eq!(metadata(&status)["problem"], "SIGNATURE");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_credentials_of_its_caller() {
    let guarded = Guarded::with(&[("auth.jwks_refresh", "20ms"), ("auth.leeway", "0s")]).await;
    let long = reservd::rpc::pb::diagnostics::RunConcurrencyTestRequest {
        operation_count: 100_000,
        concurrency: 2,
        ..Default::default()
    };
    let ended = async |client: Client| {
        let mut begun = None;
        eventually("one test at a time", async || {
            begun = client.diagnostics().run_concurrency_test(long).await.ok();
            begun.is_some()
        })
        .await;
        let mut updates = begun.expect("it begins").into_inner();
        loop {
            match updates.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it went on to its end"),
                Err(status) => return reason(&status),
            }
        }
    };
    let mut short = claims("root", &["admin"]);
    short["exp"] = json!(reservd::auth::clock::now() + 2);
    let short = guarded.issuer.sign(&Signer::Ed25519, &header(), &short);
    assert_eq!(ended(guarded.with_token(&short)).await, "CREDENTIALS_ENDED");

    let client = guarded.caller("root", &["admin"]);
    let withdrawn = async {
        let jwks: Value = Issuer::new().jwks();
        eventually("the stream is running", async || guarded.server.metric("reservd_rpcs_in_flight").await > 0.0).await;
        guarded.folder.file("jwks.json", jwks.to_string());
    };
    let (reason, ()) = tokio::join!(ended(client.clone()), withdrawn);
    assert_eq!(reason, "CREDENTIALS_ENDED");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_its_token_and_resumes_with_a_new_one() {
    let guarded = Guarded::with(&[("auth.leeway", "0s"), ("auth.jwks_refresh", "20ms")]).await;
    guarded.event("concert", 5).await;
    let watch = async |client: &Client, version| {
        let request = watch_of("concert", Some(version));
        let messages = client.feed().watch_changes(request).await.expect("it can be watched").into_inner();
        Watcher::new(messages, version)
    };
    let mut short = claims("eye", &["reader"]);
    short["exp"] = json!(reservd::auth::clock::now() + 2);
    let short = guarded.with_token(&guarded.issuer.sign(&Signer::Ed25519, &header(), &short));
    let mut watcher = watch(&short, 0).await;
    watcher.until(1).await;
    let status = watcher.failure().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CREDENTIALS_ENDED"));
    assert_refused(ask(&short).await, Code::Unauthenticated, "TOKEN_EXPIRED");

    guarded.unguarded().reserve(crate::support::reserve("concert", "ann")).await.expect("a place");
    let mut again = watch(&guarded.caller("eye", &["reader"]), watcher.version).await;
    again.until(2).await;
    // A watch also ends when the key of its token is revoked.
    guarded.folder.file("jwks.json", Issuer::new().jwks().to_string());
    assert_eq!(reason(&again.failure().await), "CREDENTIALS_ENDED");
    guarded.check_and_stop().await;
}
