//! Disconnects clients that keep the server waiting: for the rest of a message, or for an answer to be read. What is
//! pending costs memory, and HTTP/2 lets a client have any amount of it for as long as it likes, while its connection
//! looks alive.
//!
//! Pending bytes are counted. Up to a budget for all clients nothing happens. Beyond it, the client with the oldest
//! pending item is disconnected, which frees all that is pending for it; an honest client, whose items are pending for
//! a round trip, is never the one. And nothing may be pending for longer than the limit.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::telemetry::metrics::Metrics;

/// Bytes that may be pending for all clients. Beyond twice as many, a client is disconnected however short the wait.
const BUDGET: usize = 12 * 1024 * 1024;
/// What a call costs beside its message or answer: its stream, task, headers and buffers.
pub const CALL_BYTES: usize = 8 * 1024;
/// What may be pending for one client however much is pending for others.
const FREE_BYTES: usize = 16 * CALL_BYTES;
/// No client is disconnected for a shorter wait, up to twice the budget.
const MIN_WAIT: Duration = Duration::from_millis(250);
/// A stream of which nothing was read for this long is stuck, and from then on counts for [`STREAM_BYTES`]: its task
/// and buffers. A stream that is read counts for nothing: what streams send is shared.
const STUCK: Duration = Duration::from_secs(5);
const STREAM_BYTES: usize = 16 * 1024;
/// The shortest pause between two searches for the slowest clients.
const SHED_PAUSE: Duration = Duration::from_millis(5);
/// How often the limit is checked; more often where it is short.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The clients of a server, and what is pending for them.
pub struct SlowClients {
    limit: Duration,
    pending_bytes: AtomicUsize,
    clients: Mutex<Clients>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Clients {
    next: u64,
    connected: HashMap<u64, Weak<Client>>,
    last_shed: Option<Instant>,
}

/// The client at the other end of a connection.
pub struct Client {
    all: Arc<SlowClients>,
    number: u64,
    pending_bytes: AtomicUsize,
    items: Mutex<Items>,
    is_disconnected: AtomicBool,
    connection: AtomicWaker,
}

/// What is pending for a client, with the time since when, or since some of it was read.
#[derive(Default)]
struct Items {
    next: u64,
    since: BTreeMap<u64, (Instant, Kind)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Call,
    Stream,
}

/// Something that waits for a client, until this is dropped.
pub struct Pending {
    client: Arc<Client>,
    number: u64,
    bytes: usize,
}

impl SlowClients {
    /// Lets nothing be pending for longer than `limit`.
    pub fn new(limit: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit, pending_bytes: AtomicUsize::new(0), clients: Mutex::default(), metrics })
    }

    /// A client that has just connected.
    pub fn connect(self: &Arc<Self>) -> Arc<Client> {
        let mut clients = self.clients.lock();
        clients.next += 1;
        let client = Arc::new(Client {
            all: Arc::clone(self),
            number: clients.next,
            pending_bytes: AtomicUsize::new(0),
            items: Mutex::default(),
            is_disconnected: AtomicBool::new(false),
            connection: AtomicWaker::new(),
        });
        clients.connected.insert(client.number, Arc::downgrade(&client));
        client
    }

    /// Checks the limit again and again. Never ends.
    pub async fn run(&self) {
        let mut checks = interval((self.limit / 4).clamp(Duration::from_millis(10), CHECK_INTERVAL));
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            self.check();
        }
    }

    fn check(&self) {
        self.shed();
        for client in self.connected() {
            if client.pending_since().is_some_and(|since| since.elapsed() >= self.limit) {
                self.disconnect(&client, "too_slow");
            }
        }
    }

    /// Disconnects the slowest clients until what is pending is within the budget.
    fn shed(&self) {
        let clients = self.connected();
        let mut pending: usize = clients.iter().map(|client| client.cost()).sum();
        let min_wait = if pending > 2 * BUDGET { Duration::ZERO } else { MIN_WAIT };
        let mut slow = Vec::new();
        for client in &clients {
            if client.is_disconnected.load(Ordering::Acquire) {
                // What is pending for it will be freed in a moment.
                pending = pending.saturating_sub(client.cost());
            } else if let Some(since) = client.pending_since() {
                slow.push((since, client));
            }
        }
        slow.sort_unstable_by_key(|(since, _)| *since);
        for (since, client) in slow {
            if pending <= BUDGET || since.elapsed() < min_wait {
                return;
            }
            pending = pending.saturating_sub(client.cost());
            self.disconnect(client, "too_much_waits");
        }
    }

    /// Whether the last search is long enough ago that searching does not take all the time.
    fn may_shed(&self) -> bool {
        let mut clients = self.clients.lock();
        let may_shed = clients.last_shed.is_none_or(|last| last.elapsed() >= SHED_PAUSE);
        if may_shed {
            clients.last_shed = Some(Instant::now());
        }
        may_shed
    }

    fn connected(&self) -> Vec<Arc<Client>> {
        // Collected, since a client that is dropped takes the lock.
        self.clients.lock().connected.values().filter_map(Weak::upgrade).collect()
    }

    fn disconnect(&self, client: &Client, why: &'static str) {
        if !client.is_disconnected.swap(true, Ordering::AcqRel) {
            self.metrics.connections_closed.with_label_values(&[why]).inc();
        }
        client.connection.wake();
    }
}

impl Client {
    /// A number that no other client of this server has.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Counts a call that waits for the rest of its message, `bytes` of which are there. None: far too much is pending
    /// already, some of it for this client.
    pub fn await_message(self: &Arc<Self>, bytes: usize) -> Option<Pending> {
        let is_too_much = self.all.pending_bytes.load(Ordering::Relaxed) > 2 * BUDGET
            && self.pending_bytes.load(Ordering::Relaxed) > FREE_BYTES;
        (!is_too_much).then(|| self.begin(Kind::Call, CALL_BYTES + bytes))
    }

    /// Counts an answer until its last byte has been read; with the number for [`Self::note_progress`].
    pub fn await_read(self: &Arc<Self>, bytes: Bytes) -> (Bytes, u64) {
        self.track(Kind::Call, CALL_BYTES + bytes.len(), bytes)
    }

    /// The same for a message of a stream.
    pub fn await_stream_read(self: &Arc<Self>, bytes: Bytes) -> (Bytes, u64) {
        self.track(Kind::Stream, 0, bytes)
    }

    fn track(self: &Arc<Self>, kind: Kind, cost: usize, bytes: Bytes) -> (Bytes, u64) {
        let pending = self.begin(kind, cost);
        let number = pending.number;
        (Bytes::from_owner(Tracked { bytes, _pending: pending }), number)
    }

    fn begin(self: &Arc<Self>, kind: Kind, bytes: usize) -> Pending {
        let mut items = self.items.lock();
        items.next += 1;
        let number = items.next;
        items.since.insert(number, (Instant::now(), kind));
        drop(items);
        let mut pending = Pending { client: Arc::clone(self), number, bytes: 0 };
        pending.grow(bytes);
        pending
    }

    /// Notes that the client has read some of what is pending.
    pub fn note_progress(&self, number: u64) {
        // The last of it may have been read by now.
        if let Some((since, _)) = self.items.lock().since.get_mut(&number) {
            *since = Instant::now();
        }
    }

    /// Ends its connection, because it reads nothing.
    pub fn disconnect(&self) {
        self.all.disconnect(self, "too_slow");
    }

    /// Whether its connection is to end; if not, `cx` is woken when it is. To be asked at every read and write, by the
    /// one task that drives the connection.
    pub fn is_disconnected(&self, cx: &Context<'_>) -> bool {
        self.connection.register(cx.waker());
        self.is_disconnected.load(Ordering::Acquire)
    }

    fn pending_since(&self) -> Option<Instant> {
        self.items.lock().since.values().map(|(since, _)| *since).min()
    }

    /// The bytes that are pending for it, stuck streams included.
    fn cost(&self) -> usize {
        let is_stuck = |(since, kind): &&(Instant, Kind)| *kind == Kind::Stream && since.elapsed() >= STUCK;
        let stuck = self.items.lock().since.values().filter(is_stuck).count();
        self.pending_bytes.load(Ordering::Relaxed) + stuck * STREAM_BYTES
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.all.clients.lock().connected.remove(&self.number);
    }
}

/// Bytes that are pending until they are dropped.
struct Tracked {
    bytes: Bytes,
    _pending: Pending,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Pending {
    /// Counts more bytes.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        let all = &self.client.all;
        self.client.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        let pending = all.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if pending > BUDGET && all.may_shed() {
            all.shed();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.client.items.lock().since.remove(&self.number);
        self.client.pending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.client.all.pending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
