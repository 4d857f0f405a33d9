//! Hears of users that were signed out or deleted elsewhere, and revokes their sessions: so a service that
//! signs users in and out needs no call of ours. A message is acknowledged once Redis has revoked them.

use std::sync::Arc;

use lapin::{message::Delivery, options::BasicAckOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{BrokerError, Part, consuming, link::Link};
use crate::{
    auth::sessions::{Sessions, store::Reach},
    config::Broker,
    domain::ids::UserId,
    rpc::{fields::Fields, status},
};

/// What users are signed out by.
const KEYS: [&str; 2] = ["user.signed_out", "user.deleted"];
/// What the consumer calls itself.
const TAG: &str = "reservd sign-outs";

/// The consumer of one server.
pub struct SignOuts {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Broker,
    sessions: Arc<Sessions>,
}

impl Part for SignOuts {
    async fn work(&self, stop: &CancellationToken, mut is_up: impl FnMut() + Send) -> Result<(), BrokerError> {
        let settings = &self.shared.settings;
        let link = Arc::new(Link::open(settings, "sign-outs").await?);
        consuming::ensure_queues(&link, &settings.sign_outs).await?;
        for key in KEYS {
            link.bind(&settings.sign_outs, &settings.users_exchange, key).await?;
        }
        let consumer = link.consume(&settings.sign_outs, TAG, settings.prefetch).await?;
        is_up();
        let settle = |delivery| {
            let (shared, link, stop) = (Arc::clone(&self.shared), Arc::clone(&link), stop.clone());
            async move { shared.settle(&link, delivery, &stop).await }
        };
        consuming::settle_each(&link, consumer, stop, settle).await
    }
}

impl SignOuts {
    /// A consumer that revokes these sessions.
    pub fn new(settings: Broker, sessions: Arc<Sessions>) -> Self {
        Self { shared: Arc::new(Shared { settings, sessions }) }
    }
}

impl Shared {
    async fn settle(&self, link: &Link, delivery: Delivery, stop: &CancellationToken) -> Result<(), BrokerError> {
        match user_of(&delivery) {
            Ok(user_id) => {
                if self.revoke(&user_id, stop).await.is_none() {
                    return consuming::give_back(&delivery).await;
                }
            }
            Err(refused) => consuming::set_aside(link, &delivery, &refused, &self.settings.sign_outs).await?,
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Tries until the user's sessions are revoked. None: that is not to be had here and now.
    async fn revoke(&self, user_id: &UserId, stop: &CancellationToken) -> Option<()> {
        consuming::insist(self.settings.retry_pause, stop, || async {
            match self.sessions.revoke_user(user_id, &Reach::All, "message").await {
                Ok(revoked) => {
                    tracing::info!(by = "broker", %user_id, revoked, "a user's sessions were revoked");
                    Some(())
                }
                Err(error) => {
                    tracing::debug!(%error, "a user's sessions could not be revoked yet");
                    None
                }
            }
        })
        .await
    }
}

/// The user that a delivery is about.
fn user_of(delivery: &Delivery) -> Result<UserId, Status> {
    // One that was mended and put back into the queue by hand says it in its type.
    let kind = delivery.properties.kind().as_ref().map_or("", |kind| kind.as_str());
    named(if KEYS.contains(&kind) { kind } else { delivery.routing_key.as_str() }, &delivery.data)
}

/// The user that a message names: `user_id` (or `userId`) of its JSON, or of the `data` in it where it
/// is a CloudEvent that has its attributes in the body too.
fn named(key: &str, body: &[u8]) -> Result<UserId, Status> {
    if !KEYS.contains(&key) {
        return Err(status::unreadable("routing_key", "or type must be user.signed_out or user.deleted"));
    }
    let json: Value = serde_json::from_slice(body).map_err(|_| status::unreadable("body", "is no JSON"))?;
    let within = [Some(&json), json.get("data")].into_iter().flatten();
    let found = within.flat_map(|json| [json.get("user_id"), json.get("userId")]).flatten().next();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", found.and_then(Value::as_str).unwrap_or_default());
    fields.finish(user_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_user_in_one_of_these_ways() {
        for body in [
            r#"{"user_id": "ann"}"#,
            r#"{"userId": "ann", "at": 7}"#,
            r#"{"specversion": "1.0", "type": "user.signed_out", "data": {"user_id": "ann"}}"#,
            r#"{"data": {"userId": "ann"}}"#,
        ] {
            assert_eq!(named("user.deleted", body.as_bytes()).expect(body).as_str(), "ann");
        }
        for bad in ["", "ann", "{}", "[]", r#"{"user_id": 7}"#, r#"{"user_id": "Ann Example"}"#, r#"{"data": "ann"}"#] {
            named("user.signed_out", bad.as_bytes()).expect_err(bad);
        }
        named("user.created", br#"{"user_id": "ann"}"#).expect_err("it says nothing of signing out");
    }
}
