//! Tests of key sets.

use serde_json::json;

use super::*;

fn ed25519(kid: &str, byte: u8) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64_URL_SAFE_NO_PAD.encode([byte; 32])})
}

fn set(keys: &[Value]) -> Result<KeySet, JwksError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn unsafe_and_unrelated_keys_are_skipped() {
    let with = |name: &str, value: Value| {
        let mut key = ed25519("a", 1);
        key[name] = value;
        key
    };
    let short = BASE64_URL_SAFE_NO_PAD.encode([7; 128]);
    for bad in [
        json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}),
        json!({"kty": "RSA", "kid": "a", "n": short, "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "a", "x": "", "y": ""}),
        json!({"kty": "OKP", "crv": "X25519", "kid": "a", "x": ""}),
        with("d", json!("AAAA")),
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("HS256")),
        with("alg", json!("ES256")),
        with("x", json!("AAAA")),
        with("x", json!(7)),
        json!("key"),
    ] {
        assert!(matches!(set(std::slice::from_ref(&bad)), Err(JwksError::Empty)), "{bad}");
        assert_eq!(set(&[bad.clone(), ed25519("b", 2)]).expect("one is good").len(), 1, "{bad}");
    }
    for good in [with("use", json!("sig")), with("alg", json!("EdDSA")), with("key_ops", json!(["verify"]))] {
        assert!(set(std::slice::from_ref(&good)).is_ok(), "{good}");
    }
    for nonsense in ["", "{}", "[]", "{\"keys\": {}}"] {
        assert!(matches!(KeySet::parse(nonsense.as_bytes()), Err(JwksError::Shape)), "{nonsense}");
    }
    assert!(matches!(set(&vec![ed25519("a", 1); 101]), Err(JwksError::TooMany)));
}

#[test]
fn a_key_is_found_by_its_kid_or_as_the_only_one() {
    let one = set(&[ed25519("a", 1)]).expect("good");
    let two = set(&[ed25519("a", 1), ed25519("b", 2)]).expect("good");
    assert!(one.find(None, Algorithm::EdDSA).is_ok() && two.find(Some("b"), Algorithm::EdDSA).is_ok());
    for (set, kid, algorithm, problem) in [
        (&one, Some("b"), Algorithm::EdDSA, TokenProblem::Key),
        (&one, None, Algorithm::RS256, TokenProblem::Key),
        (&one, Some("a"), Algorithm::RS256, TokenProblem::Algorithm),
        (&two, None, Algorithm::EdDSA, TokenProblem::Key),
    ] {
        assert_eq!(set.find(kid, algorithm).expect_err("not found"), problem, "{kid:?} {algorithm:?}");
    }
}

#[test]
fn a_removed_key_is_revoked_and_a_remaining_one_is_not() {
    let old = set(&[ed25519("a", 1), ed25519("b", 2), ed25519("c", 3)]).expect("good");
    let new = set(&[ed25519("b", 2), ed25519("c", 4)]).expect("good").after(&old);
    let revoked = |set: &KeySet| set.0.iter().map(|key| key.revoked.is_cancelled()).collect::<Vec<_>>();
    assert_eq!((revoked(&old), revoked(&new)), (vec![true, false, true], vec![false, false]));
}
