//! `[sessions]`: optional sessions in Redis.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    problems::Problems,
    secret::{Secret, SecretUrl},
};

/// Listing the sessions of a user reads all of them at once.
const MAX_PER_USER: RangeInclusive<usize> = 1..=1000;
const MAX_PREFIX: usize = 64;
/// Such a key can't be guessed, even where an attacker can read what it signs.
const MIN_KEY: usize = 32;

/// `[sessions]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Sessions {
    pub url: SecretUrl,
    pub ca_file: String,
    pub key: Secret,
    pub prefix: String,
    pub kind: SessionKind,
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    #[serde(with = "humantime_serde")]
    pub refresh_interval: Duration,
    pub max_per_user: u32,
    #[serde(with = "humantime_serde")]
    pub time_limit: Duration,
}

/// When a session expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SessionKind {
    /// A lifetime after its last use, and at the latest at its maximum lifetime.
    Sliding,
    /// A lifetime after it was opened, used or not.
    Fixed,
}

impl Sessions {
    /// Whether sessions are configured.
    pub fn is_configured(&self) -> bool {
        !self.url.expose().is_empty()
    }

    /// No line quotes the URL: it holds a password.
    pub(super) fn check(&self, problems: &mut Problems) {
        let (url, ms, second) = (self.url.expose(), Duration::from_millis(1), Duration::from_secs(1));
        let day = 24 * 3600 * second;
        problems.require(
            url.is_empty() || url.starts_with("redis://") || url.starts_with("rediss://"),
            "sessions.url (REDIS_URL) is not a URL such as rediss://user:password@host:6379/0",
        );
        problems.require(
            !url.contains('#'),
            "sessions.url (REDIS_URL) must not have a fragment: the certificate of Redis is always checked",
        );
        problems.require(
            self.ca_file.is_empty() || url.starts_with("rediss://"),
            "sessions.ca_file must not be set without a sessions.url of rediss://",
        );
        problems.require(
            self.prefix.len() <= MAX_PREFIX && self.prefix.bytes().all(|byte| byte.is_ascii_graphic()),
            format!("sessions.prefix must be at most {MAX_PREFIX} visible ASCII characters"),
        );
        let key = self.key.expose();
        problems.require(
            key.is_empty() || key.len() >= MIN_KEY,
            format!("sessions.key must have at least {MIN_KEY} characters"),
        );
        problems.number("sessions.max_per_user", self.max_per_user as usize, MAX_PER_USER);
        problems.duration("sessions.max_lifetime", self.max_lifetime, second..=366 * day);
        problems.duration("sessions.lifetime", self.lifetime, second..=self.max_lifetime);
        problems.duration("sessions.refresh_interval", self.refresh_interval, 100 * ms..=3600 * second);
        problems.duration("sessions.time_limit", self.time_limit, 10 * ms..=60 * second);
    }
}
