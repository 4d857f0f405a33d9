//! `[broker]`: the optional message broker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{problems::Problems, secret::SecretUrl};

/// Below AMQP's limit of 255 bytes, since reservd appends suffixes to some names.
const MAX_NAME: usize = 200;

/// `[broker]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in defaults.toml, once")]
pub struct Broker {
    pub url: SecretUrl,
    pub ca_file: String,
    pub outbox: bool,
    pub exchange: String,
    pub source: String,
    pub format: PayloadFormat,
    #[serde(with = "humantime_serde")]
    pub relay_interval: Duration,
    pub relay_batch: u32,
    pub commands: String,
    pub reply_prefix: String,
    pub users_exchange: String,
    pub sign_outs: String,
    pub prefetch: u16,
    #[serde(with = "humantime_serde")]
    pub retry_pause: Duration,
}

/// The encoding of a message body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PayloadFormat {
    /// Protobuf's canonical JSON.
    Json,
    /// Protobuf's binary encoding.
    Protobuf,
}

impl Broker {
    /// Whether a broker is configured.
    pub fn is_configured(&self) -> bool {
        !self.url.expose().is_empty()
    }

    /// Whether changes are kept until they are published.
    pub fn has_outbox(&self) -> bool {
        self.outbox || self.is_configured()
    }

    /// Whether the sender of a command may have its reply sent to this queue. Never to one of reservd's own; and to
    /// one of the broker's direct replies always, since only that sender receives it.
    pub fn allows_reply_to(&self, queue: &str) -> bool {
        let base = queue.strip_suffix(".dead").unwrap_or(queue);
        let is_own = base == self.commands || base == self.sign_outs;
        !is_own && (queue.starts_with(&self.reply_prefix) || queue.starts_with("amq.rabbitmq.reply-to."))
    }

    /// No line quotes the URL: it holds a password.
    pub(super) fn check(&self, problems: &mut Problems) {
        let (url, ms, hour) = (self.url.expose(), Duration::from_millis(1), Duration::from_secs(3600));
        problems.require(
            url.is_empty() || url.starts_with("amqp://") || url.starts_with("amqps://"),
            "broker.url (RABBITMQ_URL) is not a URL such as amqps://user:password@host/vhost",
        );
        problems.length("broker.exchange", &self.exchange, 1..=MAX_NAME);
        problems.length("broker.commands", &self.commands, 0..=MAX_NAME);
        problems.length("broker.reply_prefix", &self.reply_prefix, 0..=MAX_NAME);
        problems.length("broker.users_exchange", &self.users_exchange, 1..=MAX_NAME);
        problems.length("broker.sign_outs", &self.sign_outs, 0..=MAX_NAME);
        problems.length("broker.source", &self.source, 1..=MAX_NAME);
        problems.require(
            self.sign_outs.is_empty() || self.sign_outs != self.commands,
            "broker.sign_outs and broker.commands must be two different queues",
        );
        problems.duration("broker.relay_interval", self.relay_interval, ms..=hour);
        problems.duration("broker.retry_pause", self.retry_pause, ms..=hour);
        problems.number("broker.relay_batch", self.relay_batch as usize, 1..=10_000);
        problems.number("broker.prefetch", self.prefetch.into(), 1..=10_000);
    }
}
