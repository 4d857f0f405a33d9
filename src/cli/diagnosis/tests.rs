//! Tests of `diagnosis`.

use super::*;

#[test]
fn a_protocol_is_known_by_its_first_bytes() {
    for (first, expected) in [
        (&b""[..], Protocol::Silent),
        (b"HTTP/1.1 400 Bad Request", Protocol::Http1),
        (b"\x15\x03\x03\x00\x02\x02\x46", Protocol::Tls),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", Protocol::Http2),
        (b"SSH-2.0-OpenSSH_9.6", Protocol::Other),
    ] {
        assert_eq!(protocol(first), expected, "{first:?}");
    }
}

#[test]
fn a_diagnosis_says_what_to_use_instead() {
    let describe = |server: &'static str, found| describe(&Uri::from_static(server), found, "cause");
    assert_eq!(describe("http://a:1", Protocol::Tls), "a:1 expects TLS: use https://a:1");
    assert_eq!(describe("https://a:1", Protocol::Http2), "a:1 does not use TLS: use http://a:1");
    assert_eq!(describe("https://a:1", Protocol::Tls), "TLS with a:1 fails: cause");
    assert_eq!(
        describe("http://a:1", Protocol::Http1),
        "a:1 is an HTTP/1 server, not a gRPC server; use the address of server.listen"
    );
}
