//! The consumer of sign-outs: revokes the sessions of users that another service signs out or deletes, so that
//! service need not call reservd. A message is acknowledged once Redis has revoked the sessions.

use std::sync::Arc;

use lapin::{message::Delivery, options::BasicAckOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{consumer, error::BrokerError, link::Link, part::Part};
use crate::{
    auth::sessions::{Sessions, store::SessionScope},
    config::Broker,
    domain::ids::UserId,
    rpc::{fields::Fields, status},
};

/// The routing keys, or types, of the messages.
const KEYS: [&str; 2] = ["user.signed_out", "user.deleted"];
/// The consumer tag.
const TAG: &str = "reservd sign-outs";

/// The consumer of one server.
pub struct SignOuts {
    settings: Broker,
    sessions: Arc<Sessions>,
}

impl Part for SignOuts {
    async fn work(
        self: &Arc<Self>,
        stop: &CancellationToken,
        mut is_up: impl FnMut() + Send,
    ) -> Result<(), BrokerError> {
        let settings = &self.settings;
        let link = Arc::new(Link::open(settings, "sign-outs").await?);
        consumer::ensure_queues(&link, &settings.sign_outs).await?;
        for key in KEYS {
            link.bind(&settings.sign_outs, &settings.users_exchange, key).await?;
        }
        let consumer = link.consume(&settings.sign_outs, TAG, settings.prefetch).await?;
        is_up();
        let settle = |delivery| {
            let (this, link, stop) = (Arc::clone(self), Arc::clone(&link), stop.clone());
            async move { this.settle(&link, delivery, &stop).await }
        };
        consumer::settle_each(&link, consumer, stop, settle).await
    }
}

impl SignOuts {
    /// A consumer that revokes these sessions.
    pub const fn new(settings: Broker, sessions: Arc<Sessions>) -> Self {
        Self { settings, sessions }
    }

    async fn settle(&self, link: &Link, delivery: Delivery, stop: &CancellationToken) -> Result<(), BrokerError> {
        match user_id(&delivery) {
            Ok(user_id) => {
                if self.revoke(&user_id, stop).await.is_none() {
                    return consumer::requeue(&delivery).await;
                }
            }
            Err(refused) => consumer::dead_letter(link, &delivery, &refused, &self.settings.sign_outs).await?,
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Revokes the user's sessions, with retries. None: give the message back to the queue.
    async fn revoke(&self, user_id: &UserId, stop: &CancellationToken) -> Option<()> {
        consumer::retry(self.settings.retry_pause, stop, || async {
            match self.sessions.revoke_user(user_id, &SessionScope::ALL, "message").await {
                Ok(revoked) => {
                    tracing::info!(by = "broker", %user_id, revoked, "revoked a user's sessions");
                    Some(())
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot revoke a user's sessions yet");
                    None
                }
            }
        })
        .await
    }
}

/// The user of a delivery.
fn user_id(delivery: &Delivery) -> Result<UserId, Status> {
    // A message that an operator repaired and put back into the queue has its key in its type.
    let kind = delivery.properties.kind().as_ref().map_or("", |kind| kind.as_str());
    parse(if KEYS.contains(&kind) { kind } else { delivery.routing_key.as_str() }, &delivery.data)
}

/// The `user_id` (or `userId`) in a JSON body, or in its `data` where the body is a structured CloudEvent.
fn parse(key: &str, body: &[u8]) -> Result<UserId, Status> {
    if !KEYS.contains(&key) {
        return Err(status::unreadable("routing_key", "or type must be user.signed_out or user.deleted"));
    }
    let json: Value = serde_json::from_slice(body).map_err(|_| status::unreadable("body", "is not JSON"))?;
    let within = [Some(&json), json.get("data")].into_iter().flatten();
    let found = within.flat_map(|json| [json.get("user_id"), json.get("userId")]).flatten().next();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", found.and_then(Value::as_str).unwrap_or_default());
    fields.finish(user_id)
}

#[cfg(test)]
mod tests;
