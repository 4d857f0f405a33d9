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
fn two_common_names_are_none() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "shop");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "admin");
    let key = KeyPair::generate().expect("a key");
    assert_eq!(name(params.self_signed(&key).expect("a certificate").der()), None);
}

#[test]
fn what_is_no_certificate_has_no_name_and_no_end() {
    for bad in [&[][..], &[0x30, 0x82], b"canary"] {
        let bad = CertificateDer::from(bad);
        assert_eq!((name(&bad), not_after(&bad)), (None, None));
    }
}
