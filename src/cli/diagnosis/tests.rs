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
    let handshake = Cause::Handshake("cause".to_owned());
    let describe = |is_https, found| describe("a:1", is_https, found, &handshake);
    assert_eq!(describe(false, Protocol::Tls), "a:1 expects TLS; use --server https://a:1");
    assert_eq!(describe(true, Protocol::Http2), "a:1 does not use TLS; use --server http://a:1");
    assert_eq!(describe(true, Protocol::Tls), "TLS with a:1 fails: cause");
    assert_eq!(
        describe(false, Protocol::Http1),
        "a:1 is an HTTP/1 server, not a gRPC server; give the address of server.listen with --server URL"
    );
}
