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

/// Replaces everything that may be a password: the text between `://user:` and the last `@` before the
/// path, and every query parameter, since `password`, `sslpassword` or `passfile` may be among them.
pub(super) fn redact(url: &str) -> String {
    let (front, query) = url.split_once('?').unwrap_or((url, ""));
    let front = match front.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
            Some((Some((user, _)), host)) => format!("{scheme}://{user}:***@{host}"),
            _ => front.to_owned(),
        },
        None if front.is_empty() => String::new(),
        None => "***".to_owned(),
    };
    if query.is_empty() { front } else { format!("{front}?***") }
}

#[cfg(test)]
mod tests;
