//! What the relay to the message broker has to publish, and what of it was published ahead of its time.

use std::collections::HashMap;

use super::{change::Change, ids::EventId};

/// A part of the outbox: what transactions from `low` up to, but not including, `high` wrote, completed
/// so that no version of an event comes before the one below it.
#[derive(Clone, Debug)]
pub struct Window {
    /// Everything below has been delivered.
    pub low: i64,
    /// Everything below has been delivered once the window is.
    pub high: i64,
    /// What is to be published, in this order.
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

/// Versions that were published although their transactions lie above the window, because a later
/// version of the same event lies in it. The window of their own must not publish them again.
///
/// Only a crash forgets them; then they are published once more, as anything may be.
#[derive(Debug, Default)]
pub struct Ahead(HashMap<EventId, Mark>);

#[derive(Debug)]
struct Mark {
    version: i64,
    txid: i64,
}

impl Ahead {
    /// The changes of the window that were not published yet. It takes for granted that they will be.
    pub fn take(&mut self, window: Window) -> Vec<Change> {
        let Window { low, high, changes } = window;
        // Below the window the store itself knows what is published.
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
