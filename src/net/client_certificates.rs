//! The client certificates of open connections. Each ends with its `notAfter`, or when the files of a reload no longer
//! verify it: an authority was removed, or the certificate revoked.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio_rustls::rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};

use crate::auth::certificate::{Validity, not_after};

/// The certificates of open connections, and their verifier.
pub struct ClientCertificates {
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
    open: Mutex<Vec<Weak<ClientCertificate>>>,
}

/// The certificate of a connection with those that the client sent along, the client's own first.
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    /// How long it is valid.
    pub validity: Validity,
}

impl ClientCertificate {
    /// The client's own certificate; none if the chain is empty, which TLS does not let pass.
    pub fn own(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    fn withdraw_unless_verified(&self, verifier: &dyn ClientCertVerifier) {
        if !verifies(verifier, &self.chain, UnixTime::now()) {
            self.validity.withdrawn.cancel();
        }
    }
}

impl ClientCertificates {
    /// Verifies with `verifier`.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self { verifier: RwLock::new(verifier), open: Mutex::default() }
    }

    /// The certificate of a new connection. Its handshake may have begun before the last reload, so it is verified
    /// again.
    pub fn admit(&self, chain: &[CertificateDer<'_>]) -> Arc<ClientCertificate> {
        let verifier = Arc::clone(&self.verifier.read());
        let chain: Vec<_> = chain.iter().map(|it| it.clone().into_owned()).collect();
        let expires_at = expiry(&*verifier, &chain);
        let certificate =
            Arc::new(ClientCertificate { chain, validity: Validity { expires_at, ..Validity::default() } });
        let mut open = self.open.lock();
        if open.len() == open.capacity() {
            open.retain(|it| it.strong_count() > 0);
        }
        open.push(Arc::downgrade(&certificate));
        drop(open);
        // After it is in the list: a reload in between has withdrawn it, or is seen here.
        certificate.withdraw_unless_verified(&**self.verifier.read());
        certificate
    }

    /// Verifies with `verifier` from now on, and withdraws what it does not verify.
    pub fn reload(&self, verifier: Arc<dyn ClientCertVerifier>) {
        *self.verifier.write() = Arc::clone(&verifier);
        let open = self.open.lock().clone();
        for certificate in open.iter().filter_map(Weak::upgrade) {
            certificate.withdraw_unless_verified(&*verifier);
        }
    }
}

fn verifies(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>], at: UnixTime) -> bool {
    chain.split_first().is_some_and(|(own, others)| verifier.verify_client_cert(own, others, at).is_ok())
}

/// When the chain expires, in seconds since 1970: with the first certificate without which it is not verified. Others
/// that the client sent may expire earlier.
fn expiry(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>]) -> i64 {
    let mut ends: Vec<i64> = chain.iter().filter_map(not_after).collect();
    ends.sort_unstable();
    ends.dedup();
    let after = |end: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(end).unwrap_or(0) + 1));
    ends.into_iter().find(|end| !verifies(verifier, chain, after(*end))).unwrap_or(0)
}
