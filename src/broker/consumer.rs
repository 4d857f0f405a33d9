//! What the consumers share: each message is settled in a task once its outcome is final, with retries, and a
//! malformed message goes to a dead-letter queue.

use std::{future::Future, time::Duration};

use futures::StreamExt;
use lapin::{
    Consumer,
    message::Delivery,
    options::BasicNackOptions,
    types::{AMQPValue, FieldTable},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    cloud_event::PERSISTENT,
    command::reason,
    error::BrokerError,
    link::{Link, Message},
};
use crate::domain::backoff::full_jitter;

/// How long a server retries a message before it gives it back to the queue. Not shorter, since quorum queues count
/// these deliveries, and drop a message after too many.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Declares a queue and its dead-letter queue, unless they exist.
pub async fn ensure_queues(link: &Link, queue: &str) -> Result<(), BrokerError> {
    link.ensure_queue(queue).await?;
    link.ensure_queue(&dead_letter_queue(queue)).await
}

/// Settles each message in a task of its own, until `stop` or until the broker fails. Messages in progress are
/// completed after `stop`; the others go to another server.
pub async fn settle_each<F>(
    link: &Link,
    mut consumer: Consumer,
    stop: &CancellationToken,
    settle: impl Fn(Delivery) -> F + Send,
) -> Result<(), BrokerError>
where
    F: Future<Output = Result<(), BrokerError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            delivery = consumer.next() => {
                let Some(delivery) = delivery else { return Err(BrokerError::Timeout("keep the consumer")) };
                tasks.spawn(settle(delivery?));
            }
            Some(done) = tasks.join_next() => done.unwrap_or(Ok(()))?,
        }
    }
    link.cancel(consumer.tag().as_str()).await?;
    while let Some(done) = tasks.join_next().await {
        done.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// Retries `attempt` until it returns an outcome, with pauses that grow from about `first_pause`. None after
/// RETRY_LIMIT or `stop`: the message goes back to the queue.
pub async fn retry<T, F>(
    first_pause: Duration,
    stop: &CancellationToken,
    mut attempt: impl FnMut() -> F + Send,
) -> Option<T>
where
    F: Future<Output = Option<T>> + Send,
{
    let deadline = Instant::now() + RETRY_LIMIT;
    for attempts in 0.. {
        if let Some(outcome) = attempt().await {
            return Some(outcome);
        }
        let max_pause = MAX_PAUSE.max(first_pause);
        let pause = full_jitter(attempts, first_pause, max_pause, fastrand::f64()).max(first_pause / 2);
        stop.run_until_cancelled(sleep(pause)).await?;
        if Instant::now() >= deadline {
            return None;
        }
    }
    None
}

/// Gives a message back to its queue, for another server or a later attempt.
pub async fn requeue(delivery: &Delivery) -> Result<(), BrokerError> {
    delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
    Ok(())
}

/// Sends a malformed message of `queue` to the dead-letter queue, with the reason in its headers.
pub async fn dead_letter(link: &Link, delivery: &Delivery, refused: &Status, queue: &str) -> Result<(), BrokerError> {
    let sent = link.send(with_reason(delivery, refused, queue)).await?;
    match link.confirmed(vec![sent]).await?.is_empty() {
        true => Ok(()),
        // The queue was deleted; the next connection declares it again.
        false => Err(BrokerError::Nack),
    }
}

fn with_reason(delivery: &Delivery, refused: &Status, queue: &str) -> Message {
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    add_header(&mut headers, "x-reservd-reason", &reason(refused));
    add_header(&mut headers, "x-reservd-error", refused.message());
    add_header(&mut headers, "x-reservd-queue", queue);
    let properties = delivery.properties.clone().with_headers(headers).with_delivery_mode(PERSISTENT);
    let body = delivery.data.clone();
    Message { exchange: String::new(), routing_key: dead_letter_queue(queue), properties, body }
}

/// The dead-letter queue of `queue`.
fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

fn add_header(headers: &mut FieldTable, name: &str, value: &str) {
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
}
