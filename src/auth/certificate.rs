//! The name in a client certificate. TLS has already verified that a trusted authority signed it and that the
//! client has its key.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// DER tags.
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The name in a certificate: its SPIFFE id, or else `CN=` and the common name of its subject. None: it has no such
/// name, or more than one.
pub fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut ids = certificate.valid_uri_names().filter(|uri| uri.starts_with("spiffe://"));
    match (ids.next(), ids.next()) {
        (Some(id), None) => Some(id.to_owned()),
        (Some(_), Some(_)) => None,
        (None, _) => common_name(certificate.subject()).map(|name| format!("CN={name}")),
    }
}

/// The one common name in the content of a distinguished name: a sequence of sets of pairs.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while !subject.is_empty() {
        let mut set = element(&mut subject, SET)?;
        while !set.is_empty() {
            let mut pair = element(&mut set, SEQUENCE)?;
            if element(&mut pair, OBJECT_IDENTIFIER)? != COMMON_NAME {
                continue;
            }
            let tag = *pair.first()?;
            let value = element(&mut pair, tag)?;
            let name = matches!(tag, UTF8_STRING | PRINTABLE_STRING).then_some(value)?;
            if found.replace(std::str::from_utf8(name).ok()?).is_some() {
                return None;
            }
        }
    }
    found
}

/// Takes an element with this tag from the front, and returns its content.
fn element<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (head, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    // A name never needs the longer forms.
    let (length, rest) = match length {
        0x81 => rest.split_first().map(|(length, rest)| (*length, rest))?,
        short if *short < 0x80 => (*short, rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length.into()).filter(|_| *head == tag)?;
    *der = rest;
    Some(content)
}

#[cfg(test)]
mod tests;
