//! `[web]`

#![allow(missing_docs, reason = "documented in defaults.toml, once")]

use serde::{Deserialize, Serialize};
use url::Url;

use super::problems::Problems;

/// `[web]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    pub allowed_origins: Vec<String>,
}

impl Web {
    /// Whether pages of every origin may call.
    pub fn allows_any(&self) -> bool {
        self.allowed_origins.iter().any(|origin| origin == "*")
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        for origin in self.allowed_origins.iter().filter(|origin| *origin != "*") {
            let line = format!("web.allowed_origins: {origin:?} is not an origin such as \"https://shop.example\"");
            problems.require(is_origin(origin), line);
        }
    }
}

/// Whether a text is an origin as browsers send it: a scheme, a host, and a port that is not the scheme's own.
fn is_origin(text: &str) -> bool {
    Url::parse(text)
        .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests;
