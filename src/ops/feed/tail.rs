//! The tail of one watched event: reads its changes once, as they are committed, and buffers the last of them for its
//! watchers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::READ_LIMIT;
use crate::{
    domain::{
        change::Change,
        event::{Counters, Event, EventState},
        ids::EventId,
        time::Timestamp,
    },
    ops::{Ledger, OpError},
    store::changes::{self, News},
};

/// The most changes that one statement reads.
pub(super) const READ_BATCH: u32 = 1000;
/// About how many bytes of changes one page has: clients take messages of 4 MiB.
pub(super) const PAGE_BYTES: usize = 256 * 1024;
/// About how many bytes go to all watchers of an event in one go: bytes on their way to a crowd delay all other
/// watchers. The page size has the lower bound beside this.
const BURST_BYTES: usize = 8 * 1024 * 1024;
const SMALLEST_PAGE_BYTES: usize = 4 * 1024;
/// The pause after a failed read.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// The state and counters of an event at one of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Whether it takes reservations.
    pub state: EventState,
    /// Units in all.
    pub capacity: u32,
    /// The counters.
    pub counters: Counters,
}

impl Counts {
    /// The availability of an event.
    pub const fn of(event: &Event) -> Self {
        Self { state: event.state, capacity: event.definition.capacity, counters: event.counters }
    }
}

/// Some consecutive changes.
#[derive(Debug)]
pub struct Page {
    /// The version before them.
    pub after: i64,
    /// The changes: at least one, without a gap.
    pub changes: Vec<Change>,
    /// The availability after them, if no change followed when they were read.
    pub counts: Option<Counts>,
    /// PostgreSQL's time when they were read.
    pub time: Timestamp,
    /// The message with these changes, once it is encoded.
    encoded: OnceLock<Bytes>,
}

impl Page {
    /// The version of its last change.
    pub fn version(&self) -> i64 {
        self.changes.last().map_or(self.after, |change| change.version)
    }

    /// The message with the whole page: the first watcher encodes it, and all share it.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }

    fn footprint(&self) -> usize {
        self.changes.iter().map(Change::footprint).sum()
    }
}

/// Cuts the changes read into pages of about so many bytes. Only the last page may have the availability, and only if
/// it reaches that version.
pub(super) fn pages(news: News, bytes: usize) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    let mut size = 0;
    for change in news.changes {
        size += change.footprint();
        match pages.last_mut() {
            Some(page) if size <= bytes && change.version == page.version() + 1 => page.changes.push(change),
            _ => {
                size = change.footprint();
                let after = change.version - 1;
                pages.push(Page {
                    after,
                    changes: vec![change],
                    counts: None,
                    time: news.now,
                    encoded: OnceLock::new(),
                });
            }
        }
    }
    if let Some(last) = pages.last_mut().filter(|page| page.version() == news.counters.version) {
        last.counts = Some(Counts { state: news.state, capacity: news.capacity, counters: news.counters });
    }
    pages
}

/// The buffer: the changes read last.
#[derive(Debug)]
struct Recent {
    pages: VecDeque<Arc<Page>>,
    bytes: usize,
    most_bytes: usize,
    version: i64,
}

/// The buffer's answer to what follows a version.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// This page contains the next change.
    Page(Arc<Page>),
    /// No change yet.
    Nothing,
    /// The next change is no longer buffered.
    Forgotten,
}

impl Recent {
    /// Adds a page, and drops the oldest ones beyond the buffer's size.
    fn push(&mut self, page: Page) {
        if page.after != self.version {
            // Retention deleted changes before they were read: watchers that need them find them gone.
            self.pages.clear();
            self.bytes = 0;
        }
        self.version = page.version();
        self.bytes += page.footprint();
        self.pages.push_back(Arc::new(page));
        while self.bytes > self.most_bytes && self.pages.len() > 1 {
            self.bytes -= self.pages.pop_front().map_or(0, |oldest| oldest.footprint());
        }
    }

    fn after(&self, version: i64) -> Next {
        if version >= self.version {
            return Next::Nothing;
        }
        let place = self.pages.partition_point(|page| page.version() <= version);
        match self.pages.get(place) {
            Some(page) if page.after <= version => Next::Page(Arc::clone(page)),
            _ => Next::Forgotten,
        }
    }
}

/// The tail of one watched event; see the module.
pub(super) struct Tail {
    event_id: EventId,
    recent: Mutex<Recent>,
    /// Notifies watchers of new pages.
    version: watch::Sender<i64>,
    wake: Notify,
    ended: CancellationToken,
}

impl Tail {
    pub(super) fn new(event_id: EventId, version: i64, most_bytes: usize) -> Self {
        let recent = Recent { pages: VecDeque::new(), bytes: 0, most_bytes, version };
        let tail = Self {
            event_id,
            recent: Mutex::new(recent),
            version: watch::Sender::new(version),
            wake: Notify::new(),
            ended: CancellationToken::new(),
        };
        // Changes that were committed before the tail could be woken.
        tail.wake();
        tail
    }

    /// Makes the tail look for new changes.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// The version up to which the tail has read.
    pub(super) fn version(&self) -> i64 {
        *self.version.borrow()
    }

    /// Notifies of new pages; each receiver is a watcher.
    pub(super) fn subscribe(&self) -> watch::Receiver<i64> {
        self.version.subscribe()
    }

    pub(super) fn after(&self, version: i64) -> Next {
        self.lock().after(version)
    }

    /// Reads whenever the tail is woken, until its last watcher leaves or the server stops.
    pub(super) async fn follow(self: Arc<Self>, ledger: Ledger) {
        let (ended, stopped) = (self.ended.clone(), ledger.env.feed.shared.ended.clone());
        let work = async {
            loop {
                self.wake.notified().await;
                if let Err(error) = self.read_on(&ledger).await {
                    ledger.env.metrics.worker_failures.with_label_values(&["feed"]).inc();
                    tracing::warn!(event_id = %self.event_id, %error, "changes could not be read; it is tried again");
                    sleep(FAILURE_PAUSE).await;
                    self.wake();
                }
            }
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = stopped.cancelled() => {}
            () = work => {}
        }
    }

    /// Reads new changes until none is left.
    async fn read_on(&self, ledger: &Ledger) -> Result<(), OpError> {
        loop {
            let Some(news) = read_after(ledger, &self.event_id, self.version()).await? else { return Ok(()) };
            if let Some(first) = news.changes.first() {
                ledger.env.metrics.feed_delay_seconds.observe(news.now.since(first.time).as_secs_f64());
            }
            let has_more = news.changes.len() >= READ_BATCH as usize;
            let crowd = self.version.receiver_count().max(1);
            for page in pages(news, (BURST_BYTES / crowd).clamp(SMALLEST_PAGE_BYTES, PAGE_BYTES)) {
                let (bytes, version) = (page.footprint(), page.version());
                self.lock().push(page);
                self.version.send_replace(version);
                ledger.env.feed.pace(bytes, self.version.receiver_count()).await;
            }
            if !has_more {
                return Ok(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads changes that followed `version`. None: there is no such event.
pub(super) async fn read_after(ledger: &Ledger, event_id: &EventId, version: i64) -> Result<Option<News>, OpError> {
    let event_id = event_id.clone();
    let limit = Instant::now() + READ_LIMIT;
    ledger
        .read(limit, move |conn| Box::pin(async move { changes::after(conn, &event_id, version, READ_BATCH).await }))
        .await
}

#[cfg(test)]
mod tests;
