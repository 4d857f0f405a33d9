//! TLS on the side of a command: whom it trusts, and who it says that it is.

use std::{error::Error, fmt, fs, io, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::failure::Failure;

/// Which certificates of servers are accepted.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those that the system's authorities sign.
    System,
    /// Those that the authorities of this PEM file sign.
    Authorities(&'a Path),
    /// The first one of this PEM file, and no other: the server's own, whatever its names are.
    Certificate(&'a Path),
}

/// Why a TLS handshake failed, in words.
#[derive(Debug)]
pub struct HandshakeError(String);

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for HandshakeError {}

impl HandshakeError {
    /// Of an error of the handshake, with the flag that mends it.
    pub fn of(error: &io::Error) -> Self {
        use CertificateError as Bad;
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        Self(match cause {
            Some(rustls::Error::InvalidCertificate(bad)) => match bad {
                Bad::UnknownIssuer => {
                    "an authority that is not trusted has signed its certificate; name that with --ca FILE".to_owned()
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    "its certificate is for another name; use that name in --server URL".to_owned()
                }
                Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".to_owned(),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => "its certificate is not valid yet".to_owned(),
                Bad::ApplicationVerificationFailure => {
                    "its certificate is not the one of tls.certificate, so it is another server, or it has not read \
                     a new file yet"
                        .to_owned()
                }
                other => format!("its certificate is refused: {other}"),
            },
            Some(other) => other.to_string(),
            None => error.to_string(),
        })
    }
}

/// The configuration of a connection that accepts these servers, and presents the certificate and the key of these
/// files.
pub fn client_config(trust: Trust<'_>, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::System => builder.with_root_certificates(system_authorities()?),
        Trust::Authorities(file) => builder.with_root_certificates(authorities(certificates(file)?)),
        Trust::Certificate(file) => {
            let expected = certificates(file)?.swap_remove(0);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(OneCertificate { expected, provider }))
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_slice(&read(key)?);
            let secret = secret.map_err(|_| format!("{} has no private key in PEM", key.display()))?;
            let problem = |error| format!("{} and {} can't be used: {error}", certificate.display(), key.display());
            builder.with_client_auth_cert(chain, secret).map_err(problem)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn system_authorities() -> Result<RootCertStore, Failure> {
    let store = authorities(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        Err("this system has no authorities to trust; name one with --ca FILE".into())
    } else {
        Ok(store)
    }
}

fn authorities(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    store
}

/// The certificates of a file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read(file)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok();
    let found = found.filter(|found| !found.is_empty());
    Ok(found.ok_or_else(|| format!("{} has no certificate in PEM", file.display()))?)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    Ok(fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?)
}

/// Accepts one certificate. Who presents it must still have its key: the handshake proves that.
#[derive(Debug)]
struct OneCertificate {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *presented == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
