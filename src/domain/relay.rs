//! What the relay has to publish to the message broker, and what it has published ahead of its window.

use std::collections::HashMap;

use super::{change::Change, ids::EventId};

/// A part of the outbox: the changes of the transactions from `low` up to, but not including, `high`, completed so
/// that no version of an event comes before the version below it.
#[derive(Clone, Debug)]
pub struct Window {
    /// Everything below has been delivered.
    pub low: i64,
    /// Everything below has been delivered once the window is.
    pub high: i64,
    /// The changes to publish, in this order.
    pub changes: Vec<Fetched>,
}

/// A change of a window.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The transaction that wrote it; it may lie above the window.
    pub txid: i64,
    /// The change.
    pub change: Change,
}

/// A change that the broker took, but had no queue for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Its event.
    pub event_id: EventId,
    /// The version that it made.
    pub version: i64,
    /// What it was published with.
    pub routing_key: &'static str,
}

/// Versions that were published although their transactions lie above the window, because a later version of the same
/// event lies in it. Their own window must not publish them again.
///
/// A crash loses them; then they are published a second time, which at-least-once delivery allows.
#[derive(Debug, Default)]
pub struct Ahead(HashMap<EventId, Mark>);

#[derive(Debug)]
struct Mark {
    version: i64,
    txid: i64,
}

impl Ahead {
    /// The changes of the window that were not published yet. From now on they count as published.
    pub fn take(&mut self, window: Window) -> Vec<Change> {
        let Window { low, high, changes } = window;
        // Below the window the outbox itself records what is published.
        self.0.retain(|_, mark| mark.txid >= low);
        let mut fresh = Vec::with_capacity(changes.len());
        for Fetched { txid, change } in changes {
            let mark = self.0.get_mut(change.event_id());
            if mark.as_ref().is_some_and(|mark| change.version <= mark.version) {
                continue;
            }
            match mark {
                Some(mark) => *mark = Mark { version: change.version, txid: mark.txid.max(txid) },
                None if txid >= high => {
                    self.0.insert(change.event_id().clone(), Mark { version: change.version, txid });
                }
                None => {}
            }
            fresh.push(change);
        }
        fresh
    }
}

#[cfg(test)]
mod tests;
