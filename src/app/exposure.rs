//! Refuses to serve a network by oversight: without TLS or authentication only if the settings take the risk by name.

use std::net::SocketAddr;

use super::error::StartError;
use crate::config::{Config, is_loopback};

/// A listener, and a risk of serving a network with it.
struct Exposure {
    address: Option<SocketAddr>,
    listener: &'static str,
    /// Whether the risk is removed, or taken.
    is_settled: bool,
    risk: &'static str,
    cure: &'static str,
    setting: &'static str,
}

/// Names the risk of an exposed address, what removes it, and the setting that takes it.
pub fn refuse_exposure(config: &Config) -> Result<(), StartError> {
    let (server, security) = (&config.server, &config.security);
    let exposures = [
        Exposure {
            address: Some(server.listen),
            listener: "server.listen",
            is_settled: config.has_authentication() || security.allow_unauthenticated_network,
            risk: "anyone who reaches it may do everything",
            cure: "set auth.jwks, sessions.url or tls.client_ca",
            setting: "security.allow_unauthenticated_network",
        },
        Exposure {
            address: Some(server.listen),
            listener: "server.listen",
            is_settled: config.has_tls() || security.allow_plaintext_network,
            risk: "anyone on the way may read and alter everything",
            cure: "set tls.certificate and tls.key",
            setting: "security.allow_plaintext_network",
        },
        // Metrics have neither TLS nor authentication.
        Exposure {
            address: server.metrics_listen,
            listener: "server.metrics_listen",
            is_settled: security.allow_metrics_network,
            risk: "anyone who reaches it may read the metrics",
            cure: "choose an address of this machine only",
            setting: "security.allow_metrics_network",
        },
    ];
    for Exposure { address, listener, is_settled, risk, cure, setting } in exposures {
        if let Some(address) = address.filter(|address| !is_settled && !is_loopback(*address)) {
            return Err(StartError::Exposed { address, listener, risk, cure, setting });
        }
    }
    Ok(())
}
