//! TLS 1.3 and 1.2 by rustls. The files may change while the server runs.

use std::{fs, io, path::Path, sync::Arc};

use parking_lot::RwLock;
use tokio::time::sleep;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{VerifierBuilderError, WebPkiClientVerifier},
    },
};
use tokio_util::sync::CancellationToken;

use crate::config::{self, ClientCertificates};

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
    /// The authorities can't be used.
    #[error("tls.client_ca: {0}")]
    Authorities(#[from] VerifierBuilderError),
}

/// The content of the files.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The server's side of TLS.
pub struct Tls {
    settings: config::Tls,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files that the settings name.
    pub fn load(settings: &config::Tls) -> Result<Self, TlsError> {
        let current = server_config(settings, &read(settings)?)?;
        Ok(Self { settings: settings.clone(), current: RwLock::new(Arc::new(current)) })
    }

    /// An acceptor with the current certificate, for a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read()))
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
            Ok(Ok(config)) => {
                *self.current.write() = Arc::new(config);
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
    Ok(Files {
        certificate: file("tls.certificate", &settings.certificate)?,
        key: file("tls.key", &settings.key)?,
        client_ca: match settings.client_ca.as_str() {
            "" => None,
            name => Some(file("tls.client_ca", name)?),
        },
    })
}

fn server_config(settings: &config::Tls, files: &Files) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(TlsError::Pair)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("tls.client_ca", &settings.client_ca, client_ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(match settings.client_certificates {
                ClientCertificates::Optional => verifier.allow_unauthenticated().build()?,
                ClientCertificates::Required => verifier.build()?,
            })
        }
    };
    let chain = certificates("tls.certificate", &settings.certificate, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| TlsError::Pem {
        setting: "tls.key",
        file: settings.key.clone(),
        what: "private key",
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(setting: &'static str, file: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::Pem { setting, file: file.to_owned(), what: "certificate" })
}
