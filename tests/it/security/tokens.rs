//! Valid tokens are accepted, and invalid ones refused, each for its own reason.

use reservd::{auth::clock, rpc::pb};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use crate::support::{
    Guarded, assert_refused,
    issuer::{AUDIENCE, ISSUER, Issuer, Signer, claims, header, part},
    metadata,
};

const NOW: fn() -> i64 = clock::now;

/// Makes a call that every role may make, with these values of `authorization`.
async fn ask(guarded: &Guarded, values: &[&str]) -> Result<(), Status> {
    let mut request = Request::new(pb::ListEventsRequest::default());
    for value in values {
        request.metadata_mut().append("authorization", value.parse().expect("a header's value"));
    }
    guarded.server.events().list_events(request).await.map(drop)
}

/// `value` with another member.
fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().expect("an object").remove(name);
    value
}

fn good_claims() -> Value {
    claims("ann", &["user"])
}

#[tokio::test]
async fn tokens_of_every_allowed_kind_are_accepted() {
    let guarded = Guarded::start().await;
    let sign = |signer, header: Value, claims: Value| guarded.issuer.sign(&signer, &header, &claims);
    let good = [
        sign(Signer::Ed25519, header(), good_claims()),
        sign(Signer::P256, json!({"alg": "ES256", "kid": "p256"}), good_claims()),
        sign(Signer::Rsa, json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}), good_claims()),
        sign(Signer::Rsa, json!({"alg": "RS256"}), good_claims()),
        sign(Signer::Ed25519, with(header(), "typ", json!("application/AT+JWT")), good_claims()),
        sign(Signer::Ed25519, with(header(), "x5t", json!("passed over")), good_claims()),
        sign(Signer::Ed25519, header(), with(good_claims(), "aud", json!(["other", AUDIENCE]))),
        sign(Signer::Ed25519, header(), with(good_claims(), "exp", json!(NOW() as f64 + 60.5))),
        sign(Signer::Ed25519, header(), with(with(good_claims(), "exp", json!(NOW() - 20)), "nbf", json!(NOW() - 60))),
        sign(Signer::Ed25519, header(), with(good_claims(), "nbf", json!(NOW() + 20))),
        sign(Signer::Ed25519, header(), with(good_claims(), "roles", json!("reader baker"))),
    ];
    for token in good {
        ask(&guarded, &[&format!("Bearer {token}")]).await.unwrap_or_else(|refused| panic!("{token}: {refused}"));
        ask(&guarded, &[&format!("bEaReR {token}")]).await.expect("and a scheme has no case");
    }
    guarded.check_and_stop().await;
}

/// Invalid tokens, by their problem.
fn bad_tokens(issuer: &Issuer) -> Vec<(&'static str, &'static str, String)> {
    let ed = |header: Value, claims: Value| issuer.sign(&Signer::Ed25519, &header, &claims);
    let head = |name: &str, value: Value| ed(with(header(), name, value), good_claims());
    let body = |name: &str, value: Value| ed(header(), with(good_claims(), name, value));
    let lacking = |name: &str| ed(header(), without(good_claims(), name));
    let texts = |header: &str, claims: &str| issuer.sign_text(&Signer::Ed25519, header, claims);
    let good = ed(header(), good_claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (first, second) = signed.split_once('.').expect("three parts");
    let stranger = Issuer::new();
    let es = json!({"alg": "ES256", "kid": "p256"});
    let bytes = |header: &Value, bytes: Vec<u8>| issuer.sign(&Signer::Bytes(bytes), header, &good_claims());
    let hmac = |secret: Vec<u8>| {
        issuer.sign(&Signer::Hmac(secret), &json!({"alg": "HS256", "kid": "ed25519"}), &good_claims())
    };
    let own_key = json!({"kty": "OKP", "crv": "Ed25519", "x": part(stranger.public_key())});
    let mut bad = vec![
        // Not three parts of canonical base64url.
        ("one part", "SHAPE", "token".to_owned()),
        ("two parts", "SHAPE", signed.to_owned()),
        ("four parts", "SHAPE", format!("{good}.{signature}")),
        ("five parts, as encrypted ones have", "SHAPE", format!("{first}.{second}.{signature}.{second}.{signature}")),
        ("padding", "SHAPE", format!("{signed}.{signature}==")),
        ("the alphabet of plain base64", "SHAPE", format!("{signed}.+/{}", &signature[2..])),
        ("a space inside", "SHAPE", format!("{first} .{second}.{signature}")),
        ("another spelling of the same signature", "SHAPE", format!("{signed}.{}", respelt(signature))),
        // Headers.
        ("a header that is no JSON", "HEADER", texts("header", &good_claims().to_string())),
        ("a header that is a list", "HEADER", texts("[]", &good_claims().to_string())),
        ("no algorithm", "HEADER", ed(without(header(), "alg"), good_claims())),
        (
            "two algorithms",
            "HEADER",
            texts("{\"alg\":\"EdDSA\",\"kid\":\"ed25519\",\"alg\":\"none\"}", &good_claims().to_string()),
        ),
        ("an algorithm that is a number", "HEADER", head("alg", json!(7))),
        ("a key's name that is a number", "HEADER", head("kid", json!(7))),
        ("a critical extension", "CRITICAL", head("crit", json!(["exp"]))),
        ("a critical extension that is null", "CRITICAL", head("crit", Value::Null)),
        ("an unencoded payload", "CRITICAL", head("b64", json!(false))),
        ("a token of a logout", "TYPE", head("typ", json!("logout+jwt"))),
        ("an encrypted token by its type", "TYPE", head("typ", json!("JWE"))),
        // Algorithms.
        ("no signature", "ALGORITHM", bytes(&json!({"alg": "none"}), vec![])),
        ("no signature in capitals", "ALGORITHM", bytes(&json!({"alg": "NONE", "kid": "ed25519"}), vec![])),
        ("no signature, oddly spelt", "ALGORITHM", bytes(&json!({"alg": "nOnE", "kid": "ed25519"}), vec![])),
        ("HMAC with the public key as the secret", "ALGORITHM", hmac(issuer.public_key())),
        ("HMAC with the key set as the secret", "ALGORITHM", hmac(issuer.jwks().to_string().into_bytes())),
        ("HMAC with nothing as the secret", "ALGORITHM", hmac(vec![])),
        ("RSA of another digest", "ALGORITHM", head("alg", json!("RS512"))),
        ("RSA of another padding", "ALGORITHM", head("alg", json!("PS256"))),
        ("another curve", "ALGORITHM", head("alg", json!("ES384"))),
        ("another case", "ALGORITHM", head("alg", json!("eddsa"))),
        ("the key of RSA for EdDSA", "ALGORITHM", head("kid", json!("rsa"))),
        (
            "the key of EdDSA for RSA",
            "ALGORITHM",
            issuer.sign(&Signer::Rsa, &json!({"alg": "RS256", "kid": "ed25519"}), &good_claims()),
        ),
        (
            "the key of RSA for ES256",
            "ALGORITHM",
            issuer.sign(&Signer::P256, &json!({"alg": "ES256", "kid": "rsa"}), &good_claims()),
        ),
        // Keys.
        ("an unknown key", "KEY", head("kid", json!("unknown"))),
        ("a key's name that is a path", "KEY", head("kid", json!("../../../../dev/null"))),
        ("a key's name that is SQL", "KEY", head("kid", json!("x' OR '1'='1"))),
        // Signatures.
        (
            "a key of its own under a trusted name",
            "SIGNATURE",
            stranger.sign(&Signer::Ed25519, &header(), &good_claims()),
        ),
        (
            "a key that it brings along",
            "SIGNATURE",
            stranger.sign(&Signer::Ed25519, &with(header(), "jwk", own_key), &good_claims()),
        ),
        (
            "a key at a URL that it brings along",
            "SIGNATURE",
            stranger.sign(&Signer::Ed25519, &with(header(), "jku", json!("https://evil.example/keys")), &good_claims()),
        ),
        ("an empty signature", "SIGNATURE", format!("{signed}.")),
        ("a signature of zeros", "SIGNATURE", bytes(&header(), vec![0; 64])),
        ("a short signature", "SIGNATURE", bytes(&header(), vec![7; 63])),
        ("zeros as a signature of ES256", "SIGNATURE", bytes(&es, vec![0; 64])),
        ("an empty signature of ES256", "SIGNATURE", bytes(&es, vec![])),
        ("zeros as a signature of RSA", "SIGNATURE", bytes(&json!({"alg": "RS256", "kid": "rsa"}), vec![0; 256])),
        (
            "another's claims",
            "SIGNATURE",
            format!("{first}.{}.{signature}", part(claims("bob", &["admin"]).to_string())),
        ),
        (
            "another header",
            "SIGNATURE",
            format!("{}.{second}.{signature}", part(with(header(), "typ", json!("JWT")).to_string())),
        ),
        // Claims.
        ("claims that are no JSON", "CLAIMS", texts(&header().to_string(), "claims")),
        ("claims that are a list", "CLAIMS", texts(&header().to_string(), "[]")),
        (
            "an end twice",
            "CLAIMS",
            texts(&header().to_string(), &good_claims().to_string().replacen('{', "{\"exp\":99999999999,", 1)),
        ),
        (
            "roles twice",
            "CLAIMS",
            texts(&header().to_string(), &good_claims().to_string().replacen('{', "{\"roles\":[\"admin\"],", 1)),
        ),
        (
            "roles twice, further in",
            "CLAIMS",
            texts(
                &header().to_string(),
                &good_claims().to_string().replacen('{', "{\"realm\":[{\"roles\":[],\"roles\":[\"admin\"]}],", 1),
            ),
        ),
        ("an end that is text", "CLAIMS", body("exp", json!((NOW() + 60).to_string()))),
        ("an end that is null", "CLAIMS", body("exp", Value::Null)),
        ("an end before all time", "CLAIMS", body("exp", json!(-1))),
        ("a beginning that is text", "CLAIMS", body("nbf", json!("now"))),
        ("an issuer that is a list", "CLAIMS", body("iss", json!([ISSUER]))),
        ("an audience that is a number", "CLAIMS", body("aud", json!(7))),
        ("a subject that is a number", "CLAIMS", body("sub", json!(7))),
        ("another issuer", "ISSUER", body("iss", json!("https://evil.example/"))),
        ("an issuer that is longer", "ISSUER", body("iss", json!(format!("{ISSUER}x")))),
        ("an issuer without its slash", "ISSUER", body("iss", json!(ISSUER.trim_end_matches('/')))),
        ("another audience", "AUDIENCE", body("aud", json!("shop"))),
        ("other audiences", "AUDIENCE", body("aud", json!(["shop", "desk"]))),
        ("no audience in the list", "AUDIENCE", body("aud", json!([]))),
        ("an audience that begins alike", "AUDIENCE", body("aud", json!(format!("{AUDIENCE}-2")))),
        // Times.
        ("an end long ago", "EXPIRED", body("exp", json!(1))),
        ("an end a minute ago", "EXPIRED", body("exp", json!(NOW() - 60))),
        ("a beginning in a minute", "NOT_YET_VALID", body("nbf", json!(NOW() + 60))),
        ("a beginning in a year", "NOT_YET_VALID", body("nbf", json!(NOW() + 31_000_000))),
        ("an end in ten years", "LIFETIME", body("exp", json!(NOW() + 310_000_000))),
        ("an end in all eternity", "LIFETIME", body("exp", json!(1e300))),
        ("a beginning at all time's", "LIFETIME", body("nbf", json!(0))),
        // Subjects and roles.
        ("an empty subject", "SUBJECT", body("sub", json!(""))),
        ("a subject with a line of a log in it", "SUBJECT", body("sub", json!("ann\n2026 INFO all is well"))),
        ("a subject that reads backwards", "SUBJECT", body("sub", json!("ann\u{202e}nimda"))),
        ("a subject with another kind of line", "SUBJECT", body("sub", json!("ann\u{2028}all is well"))),
        ("a subject with a character that nobody sees", "SUBJECT", body("sub", json!("ann\u{200b}"))),
        ("a subject that is too long", "SUBJECT", body("sub", json!("x".repeat(300)))),
        ("a user that is no user_id", "SUBJECT", body("sub", json!("Ann Example"))),
        ("roles that are a number", "ROLES", body("roles", json!(7))),
        ("roles that are an object", "ROLES", body("roles", json!({"user": true}))),
        ("a role that is a number", "ROLES", body("roles", json!(["user", 7]))),
        ("a token that is too long", "TOO_LONG", body("note", json!("x".repeat(8000)))),
    ];
    bad.extend(["iss", "aud", "sub", "exp", "nbf"].map(|name| (name, "CLAIMS", lacking(name))));
    bad
}

/// Sets the unused bits in the last character of a signature.
fn respelt(signature: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (front, last) = signature.split_at(signature.len() - 1);
    let place = ALPHABET.find(last).expect("of the alphabet");
    format!("{front}{}", &ALPHABET[place + 1..place + 2])
}

#[tokio::test]
async fn invalid_tokens_are_refused_each_for_its_own_reason() {
    let guarded = Guarded::start().await;
    let bad = bad_tokens(&guarded.issuer);
    assert!(bad.len() >= 60, "{}", bad.len());
    for (what, problem, token) in &bad {
        let reason = if *problem == "EXPIRED" { "TOKEN_EXPIRED" } else { "TOKEN_INVALID" };
        // Twice: the cache must not accept the second one.
        for _ in 0..2 {
            let answer = ask(&guarded, &[&format!("Bearer {token}")]).await;
            let status = answer.expect_err(what);
            assert_eq!(crate::support::reason(&status), reason, "{what}: {status}");
            assert_eq!(
                (status.code(), metadata(&status)["problem"].as_str()),
                (Code::Unauthenticated, *problem),
                "{what}"
            );
        }
    }
    let good = guarded.issuer.token("ann", &["user"]);
    for values in [
        &[format!("Basic {good}")][..],
        std::slice::from_ref(&good),
        &[format!("Bearer{good}")],
        &["Bearer".to_owned()],
        &[format!("Bearer {good}"), format!("Bearer {good}")],
        &["Basic YW5uOnBhc3N3b3Jk".to_owned(), format!("Bearer {good}")],
    ] {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let status = assert_refused(ask(&guarded, &values).await, Code::Unauthenticated, "TOKEN_INVALID");
        assert_eq!(metadata(&status)["problem"], "SCHEME", "{values:?}");
    }
    assert_refused(ask(&guarded, &[]).await, Code::Unauthenticated, "CREDENTIALS_MISSING");
    ask(&guarded, &[&format!("Bearer {good}")]).await.expect("and a good one is still taken");
    let denied = guarded.server.metric("reservd_calls_denied_total{reason=\"TOKEN_INVALID\"}").await;
    assert!(denied >= 2.0 * (bad.len() - 2) as f64, "{denied} counted");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn an_algorithm_outside_the_settings_is_refused() {
    let guarded = Guarded::with(&[("auth.algorithms", "[\"ES256\", \"RS256\"]")]).await;
    let status = assert_refused(
        ask(&guarded, &[&format!("Bearer {}", guarded.issuer.token("ann", &["user"]))]).await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
    );
    assert_eq!(metadata(&status)["problem"], "ALGORITHM");
    let header = json!({"alg": "ES256", "kid": "p256"});
    let allowed = guarded.issuer.sign(&Signer::P256, &header, &good_claims());
    ask(&guarded, &[&format!("Bearer {allowed}")]).await.expect("one that is allowed");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn an_accepted_token_is_refused_after_it_expires() {
    let guarded = Guarded::with(&[("auth.leeway", "0s")]).await;
    let claims = with(good_claims(), "exp", json!(NOW() + 2));
    let bearer = format!("Bearer {}", guarded.issuer.sign(&Signer::Ed25519, &header(), &claims));
    ask(&guarded, &[&bearer]).await.expect("its time is not over");
    crate::support::eventually("its time is over", async || {
        let answer = ask(&guarded, &[&bearer]).await;
        answer.is_err_and(|status| crate::support::reason(&status) == "TOKEN_EXPIRED")
    })
    .await;
    guarded.check_and_stop().await;
}
