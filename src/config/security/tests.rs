//! Tests of `security`.

use super::*;

#[test]
fn keys_are_fetched_only_where_the_network_cannot_substitute_them() {
    for good in ["https://id.example/keys", "http://127.0.0.1:8080/keys", "http://localhost/k", "http://[::1]:1/k"] {
        assert!(is_safe_to_fetch(good), "{good}");
    }
    for bad in
        ["http://id.example/keys", "ftp://id.example/", "http://127.0.0.1@id.example/", "http://127.0.0.1.example"]
    {
        assert!(!is_safe_to_fetch(bad), "{bad}");
    }
}

#[test]
fn a_url_prints_without_its_secrets_and_a_file_as_it_is() {
    let printed = |text: &str| Location(text.into()).to_string();
    assert_eq!(printed("https://me:s3cret@id.example/keys?code=s3cret"), "https://***@id.example/***?***");
    assert_eq!(printed("HTTPS:s3cret@id.example/keys"), "https://***@id.example/***");
    assert_eq!(printed("dev-keys/jwks.json"), "dev-keys/jwks.json");
}
