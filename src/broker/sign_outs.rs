//! Hears of users that were signed out or deleted elsewhere, and revokes their sessions: so a service that
//! signs users in and out needs no call of ours. A message is acknowledged once Redis has revoked them.

use std::sync::Arc;

use futures::StreamExt;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions},
};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    BrokerError, Part, command,
    commands::{KEEP_LIMIT, LONGEST_PAUSE},
    link::Link,
};
use crate::{
    auth::sessions::{Sessions, store::Reach},
    config::Broker,
    domain::{backoff::full_jitter, ids::UserId},
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
        link.ensure_queue(&settings.sign_outs).await?;
        link.ensure_queue(&command::dead_letters(&settings.sign_outs)).await?;
        for key in KEYS {
            link.bind(&settings.sign_outs, &settings.users_exchange, key).await?;
        }
        let mut consumer = link.consume(&settings.sign_outs, TAG, settings.prefetch).await?;
        is_up();
        let mut under_way: JoinSet<Result<(), BrokerError>> = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                delivery = consumer.next() => {
                    let Some(delivery) = delivery else { return Err(BrokerError::Silent("keep the consumer")) };
                    let (shared, link, stop) = (Arc::clone(&self.shared), Arc::clone(&link), stop.clone());
                    let delivery = delivery?;
                    under_way.spawn(async move { shared.settle(&link, delivery, &stop).await });
                }
                Some(done) = under_way.join_next() => done.unwrap_or(Ok(()))?,
            }
        }
        link.end_consuming(TAG).await?;
        while let Some(done) = under_way.join_next().await {
            done.unwrap_or(Ok(()))?;
        }
        Ok(())
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
                if !self.insist(&user_id, stop).await {
                    delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
                    return Ok(());
                }
            }
            Err(refused) => {
                let sent = link.send(command::dead_letter(&delivery, &refused, &self.settings.sign_outs)).await?;
                if !link.confirmed(vec![sent]).await?.is_empty() {
                    // Somebody removed the queue; it is made again with the next connection.
                    return Err(BrokerError::Nack);
                }
            }
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Tries until the user's sessions are revoked. False: it is not to be had here and now.
    async fn insist(&self, user_id: &UserId, stop: &CancellationToken) -> bool {
        let give_up = Instant::now() + KEEP_LIMIT;
        for tried in 0.. {
            match self.sessions.revoke_user(user_id, &Reach::All, "message").await {
                Ok(revoked) => {
                    tracing::info!(by = "broker", %user_id, revoked, "a user's sessions were revoked");
                    return true;
                }
                Err(error) => tracing::debug!(%error, tried, "a user's sessions could not be revoked yet"),
            }
            let first = self.settings.retry_pause;
            let pause = full_jitter(tried, first, LONGEST_PAUSE.max(first), fastrand::f64()).max(first / 2);
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(pause) => {}
            }
            if Instant::now() >= give_up {
                return false;
            }
        }
        false
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
