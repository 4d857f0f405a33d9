//! The name in a client certificate, and how long it is valid. TLS has already verified that a trusted authority
//! signed it and that the client has its key.

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::clock;

/// How long a client certificate is valid. The default has already expired.
#[derive(Clone, Debug, Default)]
pub struct Validity {
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
    /// Cancelled when it is no longer verified: its authority is no longer trusted, or it was revoked.
    pub withdrawn: CancellationToken,
}

impl Validity {
    /// Waits for its end.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.withdrawn.cancelled() => {}
            () = clock::reaches(self.expires_at) => {}
        }
    }
}

/// The last moment of a certificate, in seconds since 1970; none if it can't be read.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// The name in a certificate: its SPIFFE id, or else `CN=` and the common name of its subject. None: it has no such
/// name, or more than one.
pub fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
    let ids = alternatives.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.starts_with("spiffe://").then_some(*uri),
        _ => None,
    });
    let mut ids = ids.fuse();
    match (ids.next(), ids.next()) {
        (Some(id), None) => Some(id.to_owned()),
        (Some(_), Some(_)) => None,
        (None, _) => {
            let mut names = certificate.subject().iter_common_name();
            let name = names.next().filter(|_| names.next().is_none())?;
            Some(format!("CN={}", name.as_str().ok()?))
        }
    }
}

#[cfg(test)]
mod tests;
