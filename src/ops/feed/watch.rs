//! One watch: a version, and the changes after it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Feed,
    tail::{Next, PAGE_BYTES, Page, Tail, pages, read_after},
};
use crate::{
    domain::{event::Event, ids::EventId},
    ops::{Ledger, OpError},
};

/// One update for a watcher.
#[derive(Clone, Debug)]
pub enum Told {
    /// The event as it is now.
    Snapshot(Box<Event>),
    /// The changes of this page, without the first ones, which the watcher knows.
    Changes {
        /// The page.
        page: Arc<Page>,
        /// How many to skip.
        known: usize,
    },
}

/// The end of watches.
#[derive(Debug)]
pub struct End {
    /// Why they ended.
    pub why: Why,
    /// The event whose watch ended the others with it, and the version up to which everything was sent. None: all
    /// ended alike.
    pub at: Option<(EventId, i64)>,
}

/// Why watches ended.
#[derive(Debug)]
pub enum Why {
    /// Every event is cancelled or deleted: no change follows.
    Over,
    /// The watcher has fallen behind by more than the tail's buffer.
    TooSlow,
    /// Retention has deleted the next change.
    Forgotten,
    /// The server stops.
    Draining,
    /// The caller's deadline has passed.
    Deadline,
    /// The changes could not be read.
    Failed(OpError),
}

/// A watch of one event; see the module. When it is dropped, it leaves the tail.
pub(super) struct Watch {
    ledger: Ledger,
    event_id: EventId,
    tail: Arc<Tail>,
    more: watch::Receiver<i64>,
    /// The watcher has got everything up to this version.
    version: i64,
    snapshot: Option<Box<Event>>,
    /// The version after which no change follows, once that is known.
    last: Option<i64>,
    /// Whether the watch has reached the tail's buffer. Until then it reads the past by itself.
    is_level: bool,
}

impl Watch {
    /// A watch from `after` on, or from the event as it was just read.
    pub(super) fn begin(ledger: &Ledger, event: Event, after: Option<i64>) -> Self {
        let version = event.counters.version;
        let tail = ledger.env.feed.join(ledger, &event.id, version);
        ledger.env.metrics.watches.inc();
        Self {
            ledger: ledger.clone(),
            event_id: event.id.clone(),
            more: tail.subscribe(),
            tail,
            version: after.unwrap_or(version),
            last: event.state.is_final().then_some(version),
            snapshot: after.is_none().then(|| Box::new(event)),
            is_level: false,
        }
    }

    /// The event.
    pub(super) const fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The next update, as soon as there is one.
    pub(super) async fn next(&mut self) -> Result<Told, End> {
        if let Some(event) = self.snapshot.take() {
            return Ok(Told::Snapshot(event));
        }
        loop {
            if self.last.is_some_and(|last| last <= self.version) {
                return Err(self.end(Why::Over));
            }
            match self.tail.after(self.version) {
                Next::Page(page) => {
                    self.is_level = true;
                    return Ok(self.tell(page));
                }
                Next::Nothing => self.is_level = true,
                Next::Forgotten if self.is_level => return Err(self.end(Why::TooSlow)),
                Next::Forgotten => return self.read_the_past().await,
            }
            // The sender lives as long as the tail, and so as long as this watch.
            let _ = self.more.changed().await;
        }
    }

    fn tell(&mut self, page: Arc<Page>) -> Told {
        let known = usize::try_from(self.version - page.after).unwrap_or(0);
        self.version = page.version();
        if page.counts.is_some_and(|counts| counts.state.is_final()) {
            self.last = Some(self.version);
        }
        Told::Changes { page, known }
    }

    /// Reads changes from before the tail's buffer: from the database, page by page, as fast as the watcher takes them.
    async fn read_the_past(&mut self) -> Result<Told, End> {
        let feed = self.ledger.env.feed.clone();
        // The semaphore is never closed.
        let _turn = feed.shared.readers_of_the_past.acquire().await;
        let news = match read_after(&self.ledger, &self.event_id, self.version).await {
            Ok(Some(news)) => news,
            Ok(None) => return Err(self.end(Why::Forgotten)),
            Err(error) => return Err(self.end(Why::Failed(error))),
        };
        match pages(news, PAGE_BYTES).into_iter().next() {
            Some(page) if page.after == self.version => Ok(self.tell(Arc::new(page))),
            _ => Err(self.end(Why::Forgotten)),
        }
    }

    fn end(&self, why: Why) -> End {
        End { why, at: Some((self.event_id.clone(), self.version)) }
    }

    fn feed(&self) -> &Feed {
        &self.ledger.env.feed
    }
}

impl Why {
    /// The name in the metrics: the error reason, if there is one.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Over => "OK",
            Self::TooSlow => "WATCH_TOO_SLOW",
            Self::Forgotten => "WATCH_TOO_OLD",
            Self::Draining => "DRAINING",
            Self::Deadline => "DEADLINE",
            Self::Failed(error) => error.reason(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ledger.env.metrics.watches.dec();
        self.feed().leave(&self.event_id);
    }
}
