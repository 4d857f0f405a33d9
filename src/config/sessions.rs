//! `[sessions]`: sessions in Redis, if there are any.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::SecretUrl;

/// The most sessions of one user: all are read at once where they are listed.
const MAX_PER_USER: RangeInclusive<u32> = 1..=1000;
/// The longest prefix.
const MAX_PREFIX: usize = 64;

/// `[sessions]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Sessions {
    pub url: SecretUrl,
    pub ca_file: String,
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

/// How the time of a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SessionKind {
    /// It begins anew with each use, up to the longest life.
    Sliding,
    /// It ends when it ends, used or not.
    Fixed,
}

impl Sessions {
    /// Whether there are any.
    pub fn is_configured(&self) -> bool {
        !self.url.expose().is_empty()
    }

    /// What is wrong with the settings, a line each. None quotes the URL: it holds a password.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let url = self.url.expose();
        if self.is_configured() && !["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme)) {
            wrong.push("sessions.url (REDIS_URL) is not a URL such as rediss://user:password@host:6379/0".to_owned());
        }
        if url.contains('#') {
            wrong.push("sessions.url (REDIS_URL) must not have a fragment: who Redis is, is always checked".to_owned());
        }
        if !self.ca_file.is_empty() && !url.starts_with("rediss://") {
            wrong.push("sessions.ca_file must not be set without a sessions.url of rediss://".to_owned());
        }
        if self.prefix.len() > MAX_PREFIX || !self.prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            wrong.push(format!("sessions.prefix must be at most {MAX_PREFIX} visible ASCII characters"));
        }
        if !MAX_PER_USER.contains(&self.max_per_user) {
            wrong.push(format!(
                "sessions.max_per_user must be from {} to {}",
                MAX_PER_USER.start(),
                MAX_PER_USER.end()
            ));
        }
        let (ms, second, day) = (Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let mut span = |key: &str, value: Duration, range: RangeInclusive<Duration>| {
            if !range.contains(&value) {
                let (min, max) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
                wrong.push(format!("{key} must be from {min} to {max}"));
            }
        };
        span("sessions.max_lifetime", self.max_lifetime, second..=366 * day);
        span("sessions.lifetime", self.lifetime, second..=self.max_lifetime);
        span("sessions.refresh_interval", self.refresh_interval, 100 * ms..=3600 * second);
        span("sessions.time_limit", self.time_limit, 10 * ms..=60 * second);
    }
}
