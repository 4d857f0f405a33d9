//! The settings that control access: `[security]`, `[tls]`, `[auth]` and `[limits]`.

#![allow(missing_docs, reason = "documented in defaults.toml, once")]

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::{problems::Problems, secret::redact};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// `[security]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    pub allow_unauthenticated_network: bool,
    pub allow_plaintext_network: bool,
    pub allow_metrics_network: bool,
}

/// `[tls]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: String,
    pub key: String,
    pub client_ca: String,
    pub client_crl: String,
    pub client_certificates: ClientCertificates,
    #[serde(with = "humantime_serde")]
    pub reload_interval: Duration,
}

/// Whether a client must present a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClientCertificates {
    /// A client without a certificate needs a token.
    Optional,
    /// The TLS handshake fails without a certificate.
    Required,
}

/// `[auth]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub jwks: Location,
    pub issuer: String,
    pub audience: String,
    pub algorithms: Vec<Algorithm>,
    pub roles_claim: String,
    pub user_claim: String,
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    #[serde(with = "humantime_serde")]
    pub max_token_lifetime: Duration,
    #[serde(with = "humantime_serde")]
    pub jwks_refresh: Duration,
    #[serde(with = "humantime_serde")]
    pub jwks_refetch_pause: Duration,
    #[serde(with = "humantime_serde")]
    pub jwks_max_age: Duration,
    pub certificate_roles: BTreeMap<String, Vec<Role>>,
}

/// How a token may be signed. `none` and symmetric algorithms are missing on purpose: a party that can
/// verify a signature must not be able to create one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    EdDSA,
    ES256,
    RS256,
}

impl Algorithm {
    /// Its name in tokens and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
        }
    }
}

/// What a principal may do. `auth::permissions` lists the roles that each RPC accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    #[serde(rename = "admin")]
    Admin,
    /// Creates, changes and ends events.
    #[serde(rename = "event.manager")]
    EventManager,
    /// Reserves for any user.
    #[serde(rename = "service")]
    Service,
    /// Reserves for itself, and sees only its own data.
    #[serde(rename = "user")]
    User,
    /// Reads everything, changes nothing.
    #[serde(rename = "reader")]
    Reader,
    /// Works at a desk: reserves for any user, changes events, reads everything.
    #[serde(rename = "box_office")]
    BoxOffice,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::EventManager, Self::Service, Self::User, Self::Reader, Self::BoxOffice];

    /// Its name in tokens and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::EventManager => "event.manager",
            Self::Service => "service",
            Self::User => "user",
            Self::Reader => "reader",
            Self::BoxOffice => "box_office",
        }
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub principal_rate: u32,
    pub principal_burst: u32,
    pub address_rate: u32,
    pub address_burst: u32,
    pub unknown_session_rate: u32,
    pub unknown_session_burst: u32,
    pub connections_per_address: u32,
    pub watches_per_principal: u32,
    pub live_holds_per_user: u32,
}

/// A file or a URL. A URL prints without its secrets.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Location(String);

impl Location {
    /// Whether it is not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URL with its secrets; none if this is a file.
    pub fn url(&self) -> Option<&str> {
        let scheme = self.0.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        let is_url = self.0.contains("://") || ["http", "https"].contains(&scheme.as_str());
        is_url.then_some(self.0.as_str())
    }

    /// The file; none if this is a URL.
    pub fn file(&self) -> Option<&Path> {
        self.url().is_none().then_some(Path::new(&self.0))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url() {
            Some(url) => f.write_str(&redact(url)),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for Location {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Tls {
    /// Whether connections are encrypted.
    pub fn is_configured(&self) -> bool {
        !self.certificate.is_empty()
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.certificate.is_empty() == self.key.is_empty(),
            "tls.certificate and tls.key must be set together",
        );
        problems.require(
            self.client_ca.is_empty() || self.is_configured(),
            "tls.client_ca must not be set without tls.certificate",
        );
        problems.require(
            self.client_crl.is_empty() || !self.client_ca.is_empty(),
            "tls.client_crl must not be set without tls.client_ca",
        );
        problems.require(
            self.client_certificates == ClientCertificates::Optional || !self.client_ca.is_empty(),
            "tls.client_certificates must not be REQUIRED without tls.client_ca",
        );
        problems.duration("tls.reload_interval", self.reload_interval, SECOND / 100..=DAY);
    }
}

impl Auth {
    pub(super) fn check(&self, problems: &mut Problems) {
        let has_jwks = !self.jwks.is_empty();
        problems.require(!has_jwks || !self.issuer.is_empty(), "auth.issuer must be set where auth.jwks is");
        problems.require(!has_jwks || !self.audience.is_empty(), "auth.audience must be set where auth.jwks is");
        problems.require(!self.algorithms.is_empty(), "auth.algorithms must name at least one algorithm");
        problems.require(self.jwks.url().is_none_or(is_safe_to_fetch), "auth.jwks must be a file, or a URL of https");
        problems.require(
            self.certificate_roles.values().flatten().all(|role| *role != Role::User),
            "auth.certificate_roles must not have the role user: a certificate does not belong to an end user",
        );
        problems.duration("auth.leeway", self.leeway, Duration::ZERO..=300 * SECOND);
        problems.duration("auth.max_token_lifetime", self.max_token_lifetime, SECOND..=366 * DAY);
        problems.duration("auth.jwks_refresh", self.jwks_refresh, SECOND / 100..=DAY);
        problems.duration("auth.jwks_refetch_pause", self.jwks_refetch_pause, SECOND / 100..=DAY);
        problems.duration("auth.jwks_max_age", self.jwks_max_age, self.jwks_refresh..=30 * DAY);
    }
}

impl Limits {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (name, rate, burst) in [
            ("principal", self.principal_rate, self.principal_burst),
            ("address", self.address_rate, self.address_burst),
            ("unknown_session", self.unknown_session_rate, self.unknown_session_burst),
        ] {
            problems.require(rate == 0 || burst > 0, format!("limits.{name}_burst must be 1 or more"));
        }
    }
}

/// Plain HTTP would let anyone on the network path substitute keys, so it is allowed on this machine only.
fn is_safe_to_fetch(url: &str) -> bool {
    let rest = url.strip_prefix("http://");
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let is_local = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        ["127.0.0.1", "[::1]", "localhost"].contains(&name)
    };
    url.starts_with("https://") || host.is_some_and(is_local)
}

#[cfg(test)]
mod tests;
