//! One watch: a version, and what follows it.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};

use super::{
    Feed,
    tail::{Next, PAGE_BYTES, Page, Tail, pages, read_after},
};
use crate::{
    domain::{
        event::{Event, EventState},
        ids::EventId,
    },
    ops::{Ledger, OpError},
};

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// The event as it is now.
    Snapshot(Box<Event>),
    /// The changes of this page, but for so many of its first, which it knows.
    Changes {
        /// The page.
        page: Arc<Page>,
        /// ExecOptions many to leave out.
        known: usize,
    },
    /// Nothing has happened since this version.
    Nothing(i64),
}

/// The end of a watch.
#[derive(Debug)]
pub struct End {
    /// Why it ended.
    pub why: Why,
    /// The version up to which everything was told.
    pub version: i64,
}

/// Why a watch ended.
#[derive(Debug)]
pub enum Why {
    /// The event is cancelled: nothing more will come.
    Over,
    /// The watcher has fallen behind by more than is remembered for it.
    TooSlow,
    /// What was to be told next is no longer kept.
    Forgotten,
    /// The server stops.
    Draining,
    /// The time that the caller had set is over.
    Deadline,
    /// The changes could not be read.
    Failed(OpError),
}

/// See the module. Dropped, it leaves.
pub struct Watch {
    ledger: Ledger,
    event_id: EventId,
    tail: Arc<Tail>,
    more: watch::Receiver<i64>,
    /// Everything up to this version has been told.
    version: i64,
    snapshot: Option<Box<Event>>,
    /// The version after which nothing comes any more, once that is known.
    last: Option<i64>,
    /// Whether it has once been told from the tail's memory. Until then it reads the past by itself.
    is_level: bool,
    until: Option<Instant>,
    told_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// A watch after `after`, or of the event as it was just read and from then on.
    pub(super) fn begin(
        ledger: &Ledger,
        event: Event,
        after: Option<i64>,
        until: Option<Instant>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let version = event.counters.version;
        let tail = ledger.env.feed.join(ledger, &event.id, version);
        ledger.env.metrics.watches.inc();
        Self {
            ledger: ledger.clone(),
            event_id: event.id.clone(),
            more: tail.subscribe(),
            tail,
            version: after.unwrap_or(version),
            last: (event.state == EventState::Cancelled).then_some(version),
            snapshot: after.is_none().then(|| Box::new(event)),
            is_level: false,
            until,
            told_at: Instant::now(),
            _place: place,
        }
    }

    /// What there is to tell next, as soon as there is something.
    pub async fn next(&mut self) -> Result<Told, End> {
        let told = self.find_next().await;
        match &told {
            Ok(_) => self.told_at = Instant::now(),
            Err(end) => self.ledger.env.metrics.watch_ends.with_label_values(&[end.why.name()]).inc(),
        }
        told
    }

    async fn find_next(&mut self) -> Result<Told, End> {
        let feed = self.ledger.env.feed.clone();
        let shared = &feed.shared;
        if let Some(event) = self.snapshot.take() {
            return Ok(Told::Snapshot(event));
        }
        loop {
            if shared.ended.is_cancelled() {
                return Err(self.end(Why::Draining));
            }
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
            let heartbeat = self.told_at + shared.settings.heartbeat_interval;
            tokio::select! {
                biased;
                () = shared.ended.cancelled() => {}
                () = sleep_until(self.until.unwrap_or(heartbeat)), if self.until.is_some() => {
                    return Err(self.end(Why::Deadline));
                }
                // Its sender lives as long as the tail, and so as long as this.
                _ = self.more.changed() => {}
                () = sleep_until(heartbeat) => return Ok(Told::Nothing(self.version)),
            }
        }
    }

    fn tell(&mut self, page: Arc<Page>) -> Told {
        let known = usize::try_from(self.version - page.after).unwrap_or(0);
        self.version = page.version();
        if page.counts.is_some_and(|counts| counts.state == EventState::Cancelled) {
            self.last = Some(self.version);
        }
        Told::Changes { page, known }
    }

    /// Tells what the tail never had in its memory: from the database, page by page, as fast as the
    /// watcher takes it.
    async fn read_the_past(&mut self) -> Result<Told, End> {
        let feed = self.ledger.env.feed.clone();
        // It is never closed.
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
        End { why, version: self.version }
    }

    fn feed(&self) -> &Feed {
        &self.ledger.env.feed
    }
}

impl Why {
    /// Its name in the metrics: the reason that the caller is told, where there is one.
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
