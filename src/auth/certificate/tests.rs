//! Tests of the names in certificates.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::*;

fn named(common_names: &[&str], uris: &[&str]) -> Option<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    common_names.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
    let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII")));
    params.subject_alt_names = uris.collect();
    let key = KeyPair::generate().expect("a key");
    name(params.self_signed(&key).expect("a certificate").der())
}

#[test]
fn a_certificate_names_one_spiffe_id_or_one_common_name() {
    assert_eq!(named(&["shop"], &["spiffe://a.example/shop"]).as_deref(), Some("spiffe://a.example/shop"));
    assert_eq!(named(&["shop"], &["https://a.example/"]).as_deref(), Some("CN=shop"));
    assert_eq!(named(&["Köche, alle"], &[]).as_deref(), Some("CN=Köche, alle"));
    assert_eq!(named(&["shop"], &["spiffe://a.example/shop", "spiffe://a.example/admin"]), None);
    assert_eq!(named(&[], &[]), None);
}

#[test]
fn malformed_der_has_no_name() {
    let pair = |value: &[u8]| {
        let pair = [&[6, 3, 0x55, 4, 3], value].concat();
        let pair = [&[0x30, pair.len() as u8], &pair[..]].concat();
        [&[0x31, pair.len() as u8], &pair[..]].concat()
    };
    assert_eq!(common_name(&pair(&[0x0c, 1, b'a'])), Some("a"));
    assert_eq!(common_name(&[pair(&[0x0c, 1, b'a']), pair(&[0x0c, 1, b'b'])].concat()), None, "two names");
    for bad in [&[0x0c, 2, b'a'][..], &[0x0c], &[], &[0x0c, 0x82, 0, 1, b'a'], &[0x1e, 2, 0, b'a'], &[0x0c, 1, 0xff]] {
        assert_eq!(common_name(&pair(bad)), None, "{bad:?}");
    }
    assert_eq!(common_name(&[0x31, 200, 1]), None);
}
