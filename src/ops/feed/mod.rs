//! The change feed of this server: the watched events and their watchers.
//!
//! Watchers get only committed changes, read from the database. For each watched event there is one [`tail`], which
//! reads new changes once, for all of its watchers. A commit of this server wakes the tail at once; one statement for
//! all watched events notices the commits of other servers ([`Ledger::poll_feed`]). A watcher has a version and no
//! queue of its own: it takes the changes after that version from the tail's buffer, or it is too slow ([`watch`]). A
//! caller that watches several events gets what each of its [`watches`] has as it comes.

mod tail;
mod watch;
mod watches;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use tail::{Counts, Page};
use watch::Watch;
pub use watch::{End, Told, Why};
pub use watches::{Update, Watches};

use super::{Ledger, OpError};
use crate::{
    config,
    domain::{
        event::{Event, EventState},
        ids::EventId,
        refusal::Refusal,
    },
    store::changes,
};
use tail::Tail;

/// The most watchers that read an event's past at once; others wait. A hundred that reconnect together must not take
/// every connection.
const READERS_OF_THE_PAST: usize = 4;
/// How long one read may take.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// The fixed cost of one message to one watcher, in bytes of bandwidth.
const COST_OF_A_MESSAGE: usize = 2048;

/// The watched events and their tails. Clones share the same state.
#[derive(Clone)]
pub(super) struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    settings: config::Watch,
    tails: Mutex<HashMap<EventId, Watched>>,
    /// The number of tails. While it is zero, a commit looks no further.
    watched: AtomicUsize,
    places: Arc<Semaphore>,
    readers_of_the_past: Semaphore,
    /// When the bytes sent so far are paid for, at the bandwidth that watchers may use.
    paid: Mutex<Instant>,
    ended: CancellationToken,
}

struct Watched {
    tail: Arc<Tail>,
    watchers: usize,
}

impl Feed {
    pub(super) fn new(settings: config::Watch) -> Self {
        let shared = Shared {
            settings,
            tails: Mutex::default(),
            watched: AtomicUsize::new(0),
            places: Arc::new(Semaphore::new(settings.max_watches)),
            readers_of_the_past: Semaphore::new(READERS_OF_THE_PAST),
            paid: Mutex::new(Instant::now()),
            ended: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Wakes the tail of an event, if it is watched: a commit of this server may have changed the event.
    pub(super) fn note(&self, event_id: &EventId) {
        // Sequentially consistent with the start of a tail, which counts itself before its first read: if this sees no
        // tail, that read sees the commit.
        if self.shared.watched.load(Ordering::SeqCst) > 0
            && let Some(watched) = self.lock().get(event_id)
        {
            watched.tail.wake();
        }
    }

    /// The tail of an event, for one more watcher. The first watcher gets a new tail, which begins after `version`.
    fn join(&self, ledger: &Ledger, event_id: &EventId, version: i64) -> Arc<Tail> {
        let mut tails = self.lock();
        let watched = tails.entry(event_id.clone()).or_insert_with(|| {
            self.shared.watched.fetch_add(1, Ordering::SeqCst);
            let tail = Arc::new(Tail::new(event_id.clone(), version, self.shared.settings.buffer_bytes));
            ledger.env.tasks.spawn(Arc::clone(&tail).follow(ledger.clone()));
            Watched { tail, watchers: 0 }
        });
        watched.watchers += 1;
        Arc::clone(&watched.tail)
    }

    /// Removes a watcher. The tail ends with the last one.
    fn leave(&self, event_id: &EventId) {
        let mut tails = self.lock();
        let Some(watched) = tails.get_mut(event_id) else { return };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            watched.tail.end();
            tails.remove(event_id);
            self.shared.watched.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits until sending `bytes` to so many watchers fits the bandwidth limit, and at least the shortest time between
    /// two messages.
    async fn pace(&self, bytes: usize, watchers: usize) {
        let rate = f64::from(self.shared.settings.max_bandwidth);
        let cost = Duration::from_secs_f64(((bytes + COST_OF_A_MESSAGE) * watchers) as f64 / rate);
        let now = Instant::now();
        let paid = {
            let mut paid = self.shared.paid.lock().unwrap_or_else(PoisonError::into_inner);
            *paid = (*paid).max(now) + cost;
            *paid
        };
        sleep_until(paid.max(now + self.shared.settings.min_interval)).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventId, Watched>> {
        self.shared.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why watches did not begin, and for which event.
pub type WatchError = (Option<EventId>, OpError);

impl Ledger {
    /// Begins to watch events, each once: from its state now, or after a version that the caller has seen.
    ///
    /// `until` is when the caller stops listening, where it said so.
    pub async fn watch(
        &self,
        wanted: Vec<(EventId, Option<i64>)>,
        deadline: Instant,
        until: Option<Instant>,
    ) -> Result<Watches, WatchError> {
        let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.env.feed.shared.places).try_acquire_many_owned(count);
        let places = places.map_err(|_| (None, OpError::Busy("too many watches are open")))?;
        let ids: Vec<_> = wanted.iter().map(|(id, _)| id.clone()).collect();
        let found = self.read(deadline, move |conn| Box::pin(async move { changes::kept(conn, &ids).await }));
        let found = found.await.map_err(|error| (None, error))?;
        let mut found: HashMap<_, _> =
            found.into_iter().map(|(event, oldest)| (event.id.clone(), (event, oldest))).collect();
        let mut watches = Vec::with_capacity(wanted.len());
        for (event_id, after) in wanted {
            let refused = |refusal: Refusal| (Some(event_id.clone()), refusal.into());
            // Who watched a deleted event before still hears that it was deleted.
            let is_there = |(event, _): &(Event, i64)| after.is_some() || event.state != EventState::Deleted;
            let found = found.remove(&event_id).filter(is_there);
            let (event, oldest) = found.ok_or_else(|| refused(Refusal::EventNotFound))?;
            let version = event.counters.version;
            match after {
                Some(after) if after > version => return Err(refused(Refusal::VersionAhead { version })),
                Some(after) if after < oldest - 1 => return Err(refused(Refusal::HistoryForgotten { oldest })),
                _ => watches.push(Watch::begin(self, event, after)),
            }
        }
        Ok(Watches::new(self, watches, until, places))
    }

    /// Finds the watched events that other servers have changed, and wakes their tails.
    pub async fn poll_feed(&self) -> Result<(), OpError> {
        let seen: Vec<_> =
            self.env.feed.lock().iter().map(|(id, watched)| (id.clone(), watched.tail.version())).collect();
        if seen.is_empty() {
            return Ok(());
        }
        let limit = Instant::now() + READ_LIMIT;
        let newer = self.read(limit, move |conn| Box::pin(async move { changes::newer(conn, &seen).await })).await?;
        newer.iter().for_each(|event_id| self.env.feed.note(event_id));
        Ok(())
    }

    /// Ends every watch, also those that begin later: the server stops.
    pub fn end_watches(&self) {
        self.env.feed.shared.ended.cancel();
    }
}
