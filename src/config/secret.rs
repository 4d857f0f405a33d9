//! Secrets, and URLs with a password, which print without them.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// A URL that may hold secrets, and prints without them.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with its secrets.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is a URL of http or https, or not set.
    pub(super) fn is_http_or_empty(&self) -> bool {
        let url = Url::parse(&self.0).ok().filter(Url::has_host);
        self.0.is_empty() || url.is_some_and(|url| ["http", "https"].contains(&url.scheme()))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", redact(&self.0))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A secret, which prints as `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

/// The schemes whose path names a database, or its like.
const WITH_NAME: [&str; 6] = ["postgres", "postgresql", "redis", "rediss", "amqp", "amqps"];

/// A URL without what may be secret: its user information, query and fragment, and its path, unless that is the name of
/// a database or a well-known one. What does not read as a URL with a host is all secret, and so is one with an `@`
/// behind the host: its password may have a `/`, `?` or `#` in it.
pub(super) fn redact(text: &str) -> String {
    const HIDDEN: &str = "***";
    if text.is_empty() {
        return String::new();
    }
    let Some(url) = Url::parse(text).ok().filter(Url::has_authority) else { return HIDDEN.to_owned() };
    let (query, fragment) = (url.query(), url.fragment());
    if [Some(url.path()), query, fragment].into_iter().flatten().any(|part| part.contains('@')) {
        return HIDDEN.to_owned();
    }
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "***@" };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let query = query.map_or("", |_| "?***");
    let fragment = fragment.map_or("", |_| "#***");
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
    let path = if is_harmless(scheme, url.path()) { url.path() } else { "/***" };
    format!("{scheme}://{user}{host}{port}{path}{query}{fragment}")
}

/// Whether a path is known not to be a secret.
fn is_harmless(scheme: &str, path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_name = WITH_NAME.contains(&scheme) && path.strip_prefix('/').is_some_and(|name| name.chars().all(is_plain));
    path.is_empty() || path == "/" || is_name || path.starts_with("/.well-known/")
}

#[cfg(test)]
mod tests;
