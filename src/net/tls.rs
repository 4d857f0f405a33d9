//! TLS 1.3 and 1.2 by rustls. The files may change while the server runs.

use std::{fs, io, path::Path, sync::Arc};

use parking_lot::RwLock;
use tokio::time::sleep;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
        server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};
use tokio_util::sync::CancellationToken;

use super::client_certificates::{ClientCertificate, ClientCertificates};
use crate::config;

/// Why the files can't be used. It never quotes their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{setting}: cannot read {file}: {cause}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        file: String,
        /// The system's error.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{setting}: {file} has no {what} in PEM")]
    Pem {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        file: String,
        /// What it should hold.
        what: &'static str,
    },
    /// The certificate and the key can't be used, or do not match.
    #[error("tls.certificate and tls.key can't be used together: {0}")]
    Pair(rustls::Error),
    /// The authorities or their lists can't be used.
    #[error("tls.client_ca and tls.client_crl: {0}")]
    Authorities(#[from] VerifierBuilderError),
}

/// The content of the files.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

/// The server's side of TLS.
pub struct Tls {
    settings: config::Tls,
    current: RwLock<Arc<ServerConfig>>,
    /// None: clients are not asked for certificates.
    client_certificates: Option<ClientCertificates>,
}

/// What verifies client certificates; none where clients are not asked for them.
type Verifier = Option<Arc<dyn ClientCertVerifier>>;

impl Tls {
    /// Reads the files that the settings name.
    pub fn load(settings: &config::Tls) -> Result<Self, TlsError> {
        let (current, verifier) = server_config(settings, &read(settings)?)?;
        let client_certificates = verifier.map(ClientCertificates::new);
        Ok(Self { settings: settings.clone(), current: RwLock::new(Arc::new(current)), client_certificates })
    }

    /// An acceptor with the current certificate, for a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read()))
    }

    /// The certificate of a client whose handshake has succeeded, with those that it sent along.
    pub fn admit(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<ClientCertificate>> {
        self.client_certificates.as_ref().map(|certificates| certificates.admit(chain))
    }

    /// Reloads the files when they change, until `stop`. It compares their content, not their times: that notices a
    /// link that is turned to another file, as Kubernetes does, too.
    pub async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = None;
        while stop.run_until_cancelled(sleep(self.settings.reload_interval)).await.is_some() {
            let (tls, last) = (Arc::clone(&self), seen.take());
            // Reading from a disk or a network must not block a worker of the runtime.
            seen = tokio::task::spawn_blocking(move || tls.reload(last)).await.ok();
        }
    }

    /// Uses the files if they differ from those seen last. Returns what it read.
    fn reload(&self, last: Option<Seen>) -> Seen {
        let seen = read(&self.settings).map_err(|error| error.to_string());
        if last.as_ref() == Some(&seen) {
            return seen;
        }
        let is_first = last.is_none();
        match seen.as_ref().map(|files| server_config(&self.settings, files)) {
            Ok(Ok((config, verifier))) => {
                *self.current.write() = Arc::new(config);
                if let (Some(certificates), Some(verifier)) = (&self.client_certificates, verifier) {
                    certificates.reload(verifier);
                }
                if !is_first {
                    tracing::info!("TLS: new connections use the new files");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "TLS: the new files can't be used; the old stay in use"),
            Err(error) => tracing::warn!(%error, "TLS: the files can't be read; what was read before stays in use"),
        }
        seen
    }
}

/// What one read of the files found.
type Seen = Result<Files, String>;

fn read(settings: &config::Tls) -> Result<Files, TlsError> {
    let file = |setting, file: &str| {
        fs::read(Path::new(file)).map_err(|cause| TlsError::File { setting, file: file.to_owned(), cause })
    };
    let optional = |setting, name: &str| (!name.is_empty()).then(|| file(setting, name)).transpose();
    Ok(Files {
        certificate: file("tls.certificate", &settings.certificate)?,
        key: file("tls.key", &settings.key)?,
        client_ca: optional("tls.client_ca", &settings.client_ca)?,
        client_crl: optional("tls.client_crl", &settings.client_crl)?,
    })
}

fn server_config(settings: &config::Tls, files: &Files) -> Result<(ServerConfig, Verifier), TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Pair)?;
    let verifier = client_verifier(settings, files)?;
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let chain = certificates("tls.certificate", &settings.certificate, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| TlsError::Pem {
        setting: "tls.key",
        file: settings.key.clone(),
        what: "private key",
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if verifier.is_some() {
        // A resumed handshake does not look at the client's certificate again, and would outlive it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok((config, verifier))
}

fn client_verifier(settings: &config::Tls, files: &Files) -> Result<Verifier, TlsError> {
    let Some(client_ca) = &files.client_ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("tls.client_ca", &settings.client_ca, client_ca)?);
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(client_crl) = &files.client_crl {
        let lists = CertificateRevocationListDer::pem_slice_iter(client_crl);
        let what = "certificate revocation list";
        builder = builder.with_crls(all_of(lists, "tls.client_crl", &settings.client_crl, what)?);
    }
    if settings.client_certificates == config::ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    Ok(Some(builder.build()?))
}

fn certificates(setting: &'static str, file: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all_of(CertificateDer::pem_slice_iter(pem), setting, file, "certificate")
}

/// All items of a file, at least one.
fn all_of<T, E>(
    items: impl Iterator<Item = Result<T, E>>,
    setting: &'static str,
    file: &str,
    what: &'static str,
) -> Result<Vec<T>, TlsError> {
    let found = items.collect::<Result<Vec<_>, _>>().ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::Pem { setting, file: file.to_owned(), what })
}
