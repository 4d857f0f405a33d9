//! What all queues that are consumed have in common: so many messages at once, each settled only when its
//! outcome is known for good, and what can't be read set aside in a queue beside theirs.

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
    BrokerError,
    cloud_event::PERSISTENT,
    command::reason,
    link::{Link, Message},
};
use crate::domain::backoff::full_jitter;

/// How long a server keeps a message that it can't settle now, before it gives it back to the queue.
/// Not shorter: quorum queues count how often a message was given back, and drop it in the end.
const KEEP_LIMIT: Duration = Duration::from_secs(30);
/// The longest pause between two tries of one message.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Makes a queue, and the one for what can't be read of it, unless they are there.
pub async fn ensure_queues(link: &Link, queue: &str) -> Result<(), BrokerError> {
    link.ensure_queue(queue).await?;
    link.ensure_queue(&dead_letters(queue)).await
}

/// Settles each message that comes in a task of its own, until it is told to stop or one of them fails
/// for the broker's sake. What is under way then may end; what has not begun goes to another server.
pub async fn settle_each<F>(
    link: &Link,
    mut consumer: Consumer,
    stop: &CancellationToken,
    settle: impl Fn(Delivery) -> F + Send,
) -> Result<(), BrokerError>
where
    F: Future<Output = Result<(), BrokerError>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            delivery = consumer.next() => {
                let Some(delivery) = delivery else { return Err(BrokerError::Silent("keep the consumer")) };
                under_way.spawn(settle(delivery?));
            }
            Some(done) = under_way.join_next() => done.unwrap_or(Ok(()))?,
        }
    }
    link.end_consuming(consumer.tag().as_str()).await?;
    while let Some(done) = under_way.join_next().await {
        done.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// Tries until there is an outcome, with pauses that begin at about `first_pause` and grow. None: it is
/// not to be had here and now, and the message goes back to the queue.
pub async fn insist<T, F>(
    first_pause: Duration,
    stop: &CancellationToken,
    mut attempt: impl FnMut() -> F + Send,
) -> Option<T>
where
    F: Future<Output = Option<T>> + Send,
{
    let give_up = Instant::now() + KEEP_LIMIT;
    for tried in 0.. {
        if let Some(outcome) = attempt().await {
            return Some(outcome);
        }
        let longest = LONGEST_PAUSE.max(first_pause);
        let pause = full_jitter(tried, first_pause, longest, fastrand::f64()).max(first_pause / 2);
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(pause) => {}
        }
        if Instant::now() >= give_up {
            return None;
        }
    }
    None
}

/// Gives a message back to its queue: another server may be better off, or this one later.
pub async fn give_back(delivery: &Delivery) -> Result<(), BrokerError> {
    delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
    Ok(())
}

/// Sets a message of `queue` that can't be read aside, with what is wrong with it in its headers.
pub async fn set_aside(link: &Link, delivery: &Delivery, refused: &Status, queue: &str) -> Result<(), BrokerError> {
    let sent = link.send(dead_letter(delivery, refused, queue)).await?;
    match link.confirmed(vec![sent]).await?.is_empty() {
        true => Ok(()),
        // Somebody removed the queue; it is made again with the next connection.
        false => Err(BrokerError::Nack),
    }
}

fn dead_letter(delivery: &Delivery, refused: &Status, queue: &str) -> Message {
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    note(&mut headers, "x-reservd-reason", &reason(refused));
    note(&mut headers, "x-reservd-error", refused.message());
    note(&mut headers, "x-reservd-queue", queue);
    let properties = delivery.properties.clone().with_headers(headers).with_delivery_mode(PERSISTENT);
    let body = delivery.data.clone();
    Message { exchange: String::new(), routing_key: dead_letters(queue), properties, body }
}

/// The queue for what can't be read of `queue`.
fn dead_letters(queue: &str) -> String {
    format!("{queue}.dead")
}

fn note(headers: &mut FieldTable, name: &str, value: &str) {
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
}
