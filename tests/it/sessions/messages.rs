//! With a real RabbitMQ: a sign-out by another service revokes the sessions here, despite outages.

use lapin::{
    BasicProperties, Channel,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{ask, guarded, on, open, wish};
use crate::support::{Guarded, Redis, TestBroker, TestRedis, eventually};

/// A service that publishes sign-outs.
struct Accounts {
    channel: Channel,
    exchange: String,
    queue: String,
}

impl Accounts {
    async fn of(broker: &TestBroker) -> Self {
        let connection = Box::leak(Box::new(broker.connect().await));
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirmations");
        Self { channel, exchange: users(broker), queue: sign_outs(broker) }
    }

    async fn tell(&self, key: &str, body: &str) {
        let (exchange, options) =
            (self.exchange.as_str().into(), BasicPublishOptions { mandatory: true, ..Default::default() });
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = self.channel.basic_publish(exchange, key.into(), options, body.as_bytes(), properties).await;
        let confirmed = sent.expect("it is sent").await.expect("it is confirmed");
        assert!(matches!(confirmed, lapin::Confirmation::Ack(None)), "{confirmed:?}");
    }

    /// The number of undelivered messages in the queue; none if there is no queue.
    async fn ready(&self) -> u32 {
        let is_there = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(self.queue.as_str().into(), is_there, FieldTable::default()).await;
        queue.expect("it is there").message_count()
    }

    /// The next dead letter and its reason.
    async fn dead(&self) -> Option<(String, String)> {
        let queue = format!("{}.dead", self.queue);
        let got = self.channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await;
        let message = got.expect("the queue is there")?;
        let headers = message.properties.headers().clone().unwrap_or_default();
        let Some(AMQPValue::LongString(why)) = headers.inner().get("x-reservd-error") else { panic!("{headers:?}") };
        Some((String::from_utf8(message.delivery.data).expect("text"), why.to_string()))
    }
}

fn users(broker: &TestBroker) -> String {
    format!("users-of-{}", broker.exchange)
}

fn sign_outs(broker: &TestBroker) -> String {
    format!("sign-outs-of-{}", broker.exchange)
}

/// A server that consumes sign-outs when this returns.
async fn listening(redis: &TestRedis, broker: &TestBroker) -> Guarded {
    let (users, sign_outs) = (users(broker), sign_outs(broker));
    let more =
        [("broker.users_exchange", users.as_str()), ("broker.sign_outs", &sign_outs), ("broker.retry_pause", "20ms")];
    let guarded = on(redis, &[&broker.settings()[..], &more].concat()).await;
    let connection = broker.connect().await;
    eventually("it listens", async || {
        let channel = connection.create_channel().await.expect("a channel");
        let is_there = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare(sign_outs.as_str().into(), is_there, FieldTable::default()).await;
        queue.is_ok_and(|queue| queue.consumer_count() > 0)
    })
    .await;
    guarded
}

#[tokio::test]
async fn a_sign_out_or_a_deletion_revokes_the_sessions_of_the_user() {
    let (redis, broker) = (TestRedis::new().await, TestBroker::new().await);
    let guarded = listening(&redis, &broker).await;
    let accounts = Accounts::of(&broker).await;
    // Each user appears once: a repeated message also revokes sessions that its user opens in between.
    for (user, key, body) in [
        ("ann", "user.signed_out", r#"{"user_id": "ann"}"#),
        ("eve", "user.deleted", r#"{"userId": "eve"}"#),
        (
            "joe",
            "user.signed_out",
            r#"{"specversion": "1.0", "id": "7", "source": "/accounts", "type": "user.signed_out", "data": {"user_id": "joe"}}"#,
        ),
    ] {
        let (one, two) = (open(&guarded, wish(user, &[])).await.0, open(&guarded, wish(user, &[])).await.0);
        let bobs = guarded.with_token(&open(&guarded, wish("bob", &[])).await.0);
        for token in [&one, &two] {
            ask(&guarded.with_token(token)).await.expect("good");
        }
        accounts.tell(key, body).await;
        for token in [&one, &two] {
            eventually("it is ended", async || ask(&guarded.with_token(token)).await.is_err()).await;
        }
        ask(&bobs).await.expect("bob's session is still valid");
        // A second delivery does no harm.
        accounts.tell(key, body).await;
    }
    eventually("all were taken", async || accounts.ready().await == 0).await;
    assert!(guarded.server.metric("reservd_sessions_revoked_total{by=\"message\"}").await >= 6.0);
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn malformed_messages_are_dead_letters_and_unrelated_ones_revoke_nothing() {
    let (redis, broker) = (TestRedis::new().await, TestBroker::new().await);
    let guarded = listening(&redis, &broker).await;
    let accounts = Accounts::of(&broker).await;
    let ann = guarded.with_token(&open(&guarded, wish("ann", &[])).await.0);
    // An operator has bound further routing keys.
    let bind = accounts.channel.queue_bind(
        accounts.queue.as_str().into(),
        accounts.exchange.as_str().into(),
        "user.*".into(),
        Default::default(),
        FieldTable::default(),
    );
    bind.await.expect("bound");
    for (key, body, why) in [
        ("user.signed_out", "ann", "body is not JSON"),
        ("user.signed_out", r#"{"user": "ann"}"#, "user_id must be 1 to 255"),
        ("user.deleted", r#"{"user_id": ["ann"]}"#, "user_id must be 1 to 255"),
        ("user.created", r#"{"user_id": "ann"}"#, "routing_key or type must be user.signed_out or user.deleted"),
    ] {
        accounts.tell(key, body).await;
        let mut dead = None;
        eventually("it is a dead letter", async || {
            dead = accounts.dead().await;
            dead.is_some()
        })
        .await;
        let (kept, told) = dead.expect("there is one");
        assert!(kept == body && told.contains(why), "{body}: {told}");
    }
    ask(&ann).await.expect("hers is good");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn sign_outs_during_an_outage_of_redis_are_applied_later() {
    let (mut server, broker) = (Redis::start().await, TestBroker::new().await);
    let redis = server.names();
    let guarded = listening(&redis, &broker).await;
    let accounts = Accounts::of(&broker).await;
    let ann = guarded.with_token(&open(&guarded, wish("ann", &[])).await.0);
    let bob = guarded.with_token(&open(&guarded, wish("bob", &[])).await.0);
    server.kill().await;
    accounts.tell("user.signed_out", r#"{"user_id": "ann"}"#).await;
    eventually("it was tried", async || guarded.server.metric("reservd_sessions_subscribed").await == 0.0).await;
    server.run().await;
    eventually("hers is ended", async || {
        ask(&ann).await.is_err_and(|status| crate::support::reason(&status) == "SESSION_ENDED")
    })
    .await;
    eventually("bob's is good", async || ask(&bob).await.is_ok()).await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn without_sessions_sign_outs_are_not_consumed() {
    let (guarded, _redis) = guarded().await;
    let broker = TestBroker::new().await;
    let queue = sign_outs(&broker);
    let settings = [&broker.settings()[..], &[("broker.sign_outs", &queue)]].concat();
    let server = guarded.unguarded().twin_with(&settings).await;
    // Its commands are consumed, so it is connected to the broker.
    let connection = broker.connect().await;
    let is_there = async |queue: &str| {
        let channel = connection.create_channel().await.expect("a channel");
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok()
    };
    eventually("it takes commands", async || is_there(&broker.commands).await).await;
    assert!(!is_there(&queue).await);
    server.app.stop().await;
    guarded.check_and_stop().await;
}
