//! The settings that decide who gets in: `[security]`, `[tls]`, `[auth]` and `[limits]`.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Config, redact};

/// `[security]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Security {
    pub allow_unauthenticated_network: bool,
    pub allow_plaintext_network: bool,
}

/// `[tls]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Tls {
    pub certificate: String,
    pub key: String,
    pub client_ca: String,
    pub client_certificates: ClientCertificates,
    #[serde(with = "humantime_serde")]
    pub reload_interval: Duration,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClientCertificates {
    /// It may; without one it needs a token.
    Optional,
    /// It must, to be connected at all.
    Required,
}

/// `[auth]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
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

/// How a token may be signed. There is no `none`, and nothing symmetric: who can check a signature must
/// not be able to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
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

/// What a principal may do; `auth::permissions` says which RPCs each opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    #[serde(rename = "admin")]
    Admin,
    /// Makes, changes and ends events.
    #[serde(rename = "event.manager")]
    EventManager,
    /// Reserves for any user.
    #[serde(rename = "service")]
    Service,
    /// Reserves for itself, and sees only what is its own.
    #[serde(rename = "user")]
    User,
    /// Sees everything, changes nothing.
    #[serde(rename = "reader")]
    Reader,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::EventManager, Self::Service, Self::User, Self::Reader];

    /// Its name in tokens and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::EventManager => "event.manager",
            Self::Service => "service",
            Self::User => "user",
            Self::Reader => "reader",
        }
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Limits {
    pub principal_rate: u32,
    pub principal_burst: u32,
    pub address_rate: u32,
    pub address_burst: u32,
    pub connections_per_address: u32,
    pub watches_per_principal: u32,
    pub live_holds_per_user: u32,
}

/// A file or a URL. A URL prints without what may be secret in it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Location(String);

impl Location {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URL, with whatever is in it; none if it is a file.
    pub fn url(&self) -> Option<&str> {
        self.0.contains("://").then_some(self.0.as_str())
    }

    /// The file; none if it is a URL.
    pub fn file(&self) -> Option<&Path> {
        (!self.0.contains("://")).then_some(Path::new(&self.0))
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

impl Config {
    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        !self.tls.certificate.is_empty()
    }

    /// Whether callers have to say who they are.
    pub fn has_authentication(&self) -> bool {
        !self.auth.jwks.is_empty() || !self.tls.client_ca.is_empty() || self.sessions.is_configured()
    }

    /// What is wrong with the settings of this module, a line each.
    pub(super) fn check_security(&self, wrong: &mut Vec<String>) {
        let (tls, auth, limits) = (&self.tls, &self.auth, &self.limits);
        let mut must = |holds: bool, line: &str| {
            if !holds {
                wrong.push(line.to_owned());
            }
        };
        let both_or_none = |a: &str, b: &str| a.is_empty() == b.is_empty();
        must(both_or_none(&tls.certificate, &tls.key), "tls.certificate and tls.key must be set together");
        must(tls.client_ca.is_empty() || self.has_tls(), "tls.client_ca must not be set without tls.certificate");
        must(
            tls.client_certificates == ClientCertificates::Optional || !tls.client_ca.is_empty(),
            "tls.client_certificates must not be REQUIRED without tls.client_ca",
        );
        must(auth.jwks.is_empty() || !auth.issuer.is_empty(), "auth.issuer must be set where auth.jwks is");
        must(auth.jwks.is_empty() || !auth.audience.is_empty(), "auth.audience must be set where auth.jwks is");
        must(!auth.algorithms.is_empty(), "auth.algorithms must name one at least");
        must(auth.jwks.url().is_none_or(is_safe_to_fetch), "auth.jwks must be a file, or a URL of https");
        must(
            auth.certificate_roles.values().flatten().all(|role| *role != Role::User),
            "auth.certificate_roles must not have the role user: a certificate is no end user's",
        );
        must(limits.principal_rate == 0 || limits.principal_burst > 0, "limits.principal_burst must be 1 or more");
        must(limits.address_rate == 0 || limits.address_burst > 0, "limits.address_burst must be 1 or more");

        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let mut span = |key: &str, value: Duration, range: RangeInclusive<Duration>| {
            if !range.contains(&value) {
                let (min, max) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
                wrong.push(format!("{key} must be from {min} to {max}"));
            }
        };
        span("tls.reload_interval", tls.reload_interval, second / 100..=day);
        span("auth.leeway", auth.leeway, Duration::ZERO..=300 * second);
        span("auth.max_token_lifetime", auth.max_token_lifetime, second..=366 * day);
        span("auth.jwks_refresh", auth.jwks_refresh, second / 100..=day);
        span("auth.jwks_refetch_pause", auth.jwks_refetch_pause, second / 100..=day);
        span("auth.jwks_max_age", auth.jwks_max_age, auth.jwks_refresh..=30 * day);
    }
}

/// Over plain HTTP anyone on the way could put keys of their own in. On this machine there is no way.
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
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_where_nobody_can_put_others_in_between() {
        for good in ["https://id.example/keys", "http://127.0.0.1:8080/keys", "http://localhost/k", "http://[::1]:1/k"]
        {
            assert!(is_safe_to_fetch(good), "{good}");
        }
        for bad in
            ["http://id.example/keys", "ftp://id.example/", "http://127.0.0.1@id.example/", "http://127.0.0.1.example"]
        {
            assert!(!is_safe_to_fetch(bad), "{bad}");
        }
    }

    #[test]
    fn a_url_prints_without_its_secrets_and_a_file_as_it_is() {
        let printed = |text: &str| Location(text.into()).to_string();
        assert_eq!(printed("https://me:s3cret@id.example/keys?code=s3cret"), "https://me:***@id.example/keys?***");
        assert_eq!(printed("dev-keys/jwks.json"), "dev-keys/jwks.json");
    }
}
