//! Why the broker or the outbox is unavailable.

use crate::ops::relay::RelayError;

/// Why the broker or the outbox is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The broker is unreachable, or has closed the connection or the channel.
    #[error("RabbitMQ: {0}")]
    Broker(#[from] lapin::Error),
    /// The broker did not respond in time.
    #[error("RabbitMQ took too long to {0}")]
    Timeout(&'static str),
    /// The broker did not accept a message.
    #[error("RabbitMQ refused a message")]
    Nack,
    /// `broker.ca_file` can't be read.
    #[error("cannot read broker.ca_file: {0}")]
    CaFile(#[source] std::io::Error),
    /// The outbox can't be read, or its cursor can't be moved.
    #[error("the outbox: {0}")]
    Outbox(#[from] RelayError),
}
