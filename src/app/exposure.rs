//! Refuses to serve a network by oversight: without TLS or authentication only if the settings take the risk by name.

use std::net::SocketAddr;

use super::error::StartError;
use crate::config::Config;

/// Names the risk of an exposed address, what removes it, and the setting that takes it.
pub fn refuse_exposure(config: &Config) -> Result<(), StartError> {
    let address = config.server.listen;
    if is_loopback(address) {
        return Ok(());
    }
    let exposed = |risk, cure, setting| Err(StartError::Exposed { address, risk, cure, setting });
    if !config.has_authentication() && !config.security.allow_unauthenticated_network {
        return exposed(
            "anyone who reaches it may do everything",
            "auth.jwks, sessions.url or tls.client_ca",
            "security.allow_unauthenticated_network",
        );
    }
    if !config.has_tls() && !config.security.allow_plaintext_network {
        return exposed(
            "anyone on the way may read and alter everything",
            "tls.certificate and tls.key",
            "security.allow_plaintext_network",
        );
    }
    Ok(())
}

/// Whether only this machine reaches an address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
