//! `[broker]`: the message broker, if there is one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SecretUrl;

/// The longest name that AMQP has room for, less what we append to some.
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
    pub users_exchange: String,
    pub sign_outs: String,
    pub prefetch: u16,
    #[serde(with = "humantime_serde")]
    pub retry_pause: Duration,
}

/// How the data of a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PayloadFormat {
    /// As protobuf's canonical JSON.
    Json,
    /// As protobuf's bytes.
    Protobuf,
}

impl Broker {
    /// Whether there is a broker.
    pub fn is_configured(&self) -> bool {
        !self.url.expose().is_empty()
    }

    /// Whether changes must be kept until they are published.
    pub fn has_outbox(&self) -> bool {
        self.outbox || self.is_configured()
    }

    /// What is wrong with the settings, a line each. None quotes the URL: it holds a password.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.is_configured() && !["amqp://", "amqps://"].iter().any(|scheme| self.url.expose().starts_with(scheme)) {
            wrong.push("broker.url (RABBITMQ_URL) is not a URL such as amqps://user:password@host/vhost".to_owned());
        }
        if self.exchange.is_empty() || self.exchange.len() > MAX_NAME {
            wrong.push(format!("broker.exchange must have 1 to {MAX_NAME} bytes"));
        }
        if self.commands.len() > MAX_NAME {
            wrong.push(format!("broker.commands must have at most {MAX_NAME} bytes"));
        }
        if self.users_exchange.is_empty() || self.users_exchange.len() > MAX_NAME {
            wrong.push(format!("broker.users_exchange must have 1 to {MAX_NAME} bytes"));
        }
        if self.sign_outs.len() > MAX_NAME {
            wrong.push(format!("broker.sign_outs must have at most {MAX_NAME} bytes"));
        }
        if !self.sign_outs.is_empty() && self.sign_outs == self.commands {
            wrong.push("broker.sign_outs and broker.commands must be two queues".to_owned());
        }
        if self.source.is_empty() || self.source.len() > MAX_NAME {
            wrong.push(format!("broker.source must have 1 to {MAX_NAME} bytes"));
        }
        wrong
    }
}
