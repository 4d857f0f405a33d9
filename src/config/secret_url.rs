//! A URL that prints without its password.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A URL that may hold a password, and prints without it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
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
