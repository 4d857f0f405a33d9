//! Patience with clients that keep the server waiting: for the rest of a message, or for an answer to be
//! taken. Each of these costs memory, and HTTP/2 lets a client have any number of them for as long as it
//! likes, while its connection looks alive.
//!
//! What waits is counted in bytes. While that is little, nobody minds. Beyond the budget, the client that
//! has kept the server waiting for longest loses its connection, and with it all that waits for it; an
//! honest one, which is waited for only as long as the way to it takes, is never that. And nobody is
//! waited for longer than the limit.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::telemetry::metrics::Metrics;

/// Bytes that may wait for clients in all. At twice as many no wait is too short to end it.
const BUDGET: usize = 12 * 1024 * 1024;
/// What a call costs besides its message or answer: its stream, task, headers and buffers.
pub const CALL_BYTES: usize = 8 * 1024;
/// What may wait for one client however much waits for others.
const FREE_BYTES: usize = 16 * CALL_BYTES;
/// Nobody is let go for less, while less than twice the budget waits.
const LEAST: Duration = Duration::from_millis(250);
/// A stream of which nothing was taken for so long is stuck, and then counts for so many bytes: its task,
/// its buffers, and what it was to tell. Before, it counts for none: what streams tell is shared.
const STUCK: Duration = Duration::from_secs(5);
const STREAM_BYTES: usize = 16 * 1024;
/// How soon it is looked again for those who are in the way.
const PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked for those who have been waited for too long; or, with a short limit, sooner.
const LOOK: Duration = Duration::from_millis(500);

/// All clients of a server, as far as it waits for them.
pub struct Patience {
    limit: Duration,
    waiting: AtomicUsize,
    clients: Mutex<Clients>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Clients {
    next: u64,
    connected: HashMap<u64, Weak<Client>>,
    looked: Option<Instant>,
}

/// The client at the other end of a connection.
pub struct Client {
    patience: Arc<Patience>,
    number: u64,
    /// Bytes that wait for it.
    waiting: AtomicUsize,
    waits: Mutex<Waits>,
    is_gone: AtomicBool,
    connection: AtomicWaker,
}

/// The waits for a client: when each began, or something was taken last.
#[derive(Default)]
struct Waits {
    next: u64,
    since: BTreeMap<u64, (Instant, Of)>,
}

/// What is waited with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Call,
    Stream,
}

/// A wait for a client, until this is dropped.
pub struct Wait {
    client: Arc<Client>,
    number: u64,
    bytes: usize,
}

impl Patience {
    /// Waits for nobody longer than `limit`.
    pub fn new(limit: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit, waiting: AtomicUsize::new(0), clients: Mutex::default(), metrics })
    }

    /// A client that has just connected.
    pub fn client(self: &Arc<Self>) -> Arc<Client> {
        let mut clients = lock(&self.clients);
        clients.next += 1;
        let client = Arc::new(Client {
            patience: Arc::clone(self),
            number: clients.next,
            waiting: AtomicUsize::new(0),
            waits: Mutex::default(),
            is_gone: AtomicBool::new(false),
            connection: AtomicWaker::new(),
        });
        clients.connected.insert(client.number, Arc::downgrade(&client));
        client
    }

    /// Lets those go who are waited for too long, again and again. Never ends.
    pub async fn keep(&self) {
        let mut looks = interval((self.limit / 4).clamp(Duration::from_millis(10), LOOK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look();
        }
    }

    fn look(&self) {
        self.make_room();
        for client in self.all() {
            if client.waited_for_since().is_some_and(|since| since.elapsed() >= self.limit) {
                self.let_go(&client, "too_slow");
            }
        }
    }

    /// Lets those go who are waited for longest, as many as it takes, if that is long enough for how much
    /// waits.
    fn make_room(&self) {
        let all = self.all();
        let waiting: usize = all.iter().map(|client| client.costs()).sum();
        let least = if waiting > 2 * BUDGET { Duration::ZERO } else { LEAST };
        let (mut left, mut waited_for) = (waiting, Vec::new());
        for client in &all {
            if client.is_gone.load(Ordering::Acquire) {
                // Soon it waits no more.
                left = left.saturating_sub(client.costs());
            } else if let Some(since) = client.waited_for_since() {
                waited_for.push((since, client));
            }
        }
        waited_for.sort_unstable_by_key(|(since, _)| *since);
        for (since, client) in waited_for {
            if left <= BUDGET || since.elapsed() < least {
                return;
            }
            left = left.saturating_sub(client.costs());
            self.let_go(client, "too_much_waits");
        }
    }

    /// Not so often that the looking would be what takes the time.
    fn is_time_to_look(&self) -> bool {
        let mut clients = lock(&self.clients);
        let is_time = clients.looked.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_time {
            clients.looked = Some(Instant::now());
        }
        is_time
    }

    fn all(&self) -> Vec<Arc<Client>> {
        // Not dropped under the lock, which the drop of a client takes.
        lock(&self.clients).connected.values().filter_map(Weak::upgrade).collect()
    }

    fn let_go(&self, client: &Client, why: &'static str) {
        if client.hang_up() {
            self.metrics.connections_closed.with_label_values(&[why]).inc();
        }
    }
}

impl Client {
    /// Another for each client of this server.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Waits for this client with a call that keeps so many bytes. None: far too much waits already, for this
    /// client among others.
    pub fn wait(self: &Arc<Self>, bytes: usize) -> Option<Wait> {
        let is_too_much = self.patience.waiting.load(Ordering::Relaxed) > 2 * BUDGET
            && self.waiting.load(Ordering::Relaxed) > FREE_BYTES;
        (!is_too_much).then(|| self.begin(Of::Call, CALL_BYTES + bytes))
    }

    fn begin(self: &Arc<Self>, of: Of, bytes: usize) -> Wait {
        let number = lock(&self.waits).begin(of);
        let mut wait = Wait { client: Arc::clone(self), number, bytes: 0 };
        wait.grow(bytes);
        wait
    }

    /// An answer, which is waited with until its last byte has been taken; and the number of that wait.
    pub fn wait_with(self: &Arc<Self>, bytes: Bytes) -> (Bytes, u64) {
        self.waited_with(Of::Call, CALL_BYTES + bytes.len(), bytes)
    }

    /// The same with what a stream tells next.
    pub fn wait_with_part(self: &Arc<Self>, bytes: Bytes) -> (Bytes, u64) {
        self.waited_with(Of::Stream, 0, bytes)
    }

    fn waited_with(self: &Arc<Self>, of: Of, costs: usize, bytes: Bytes) -> (Bytes, u64) {
        let wait = self.begin(of, costs);
        let number = wait.number;
        (Bytes::from_owner(Taken { bytes, _wait: wait }), number)
    }

    /// Takes note that something has been taken of what is waited with.
    pub fn takes_some(&self, number: u64) {
        let mut waits = lock(&self.waits);
        // At its end by now it may be none.
        if let Some((since, _)) = waits.since.get_mut(&number) {
            *since = Instant::now();
        }
    }

    /// Ends its connection. False if it was at its end already.
    fn hang_up(&self) -> bool {
        let is_news = !self.is_gone.swap(true, Ordering::AcqRel);
        self.connection.wake();
        is_news
    }

    /// Whether its connection is to end; if not, `cx` is woken when it is. To be asked whenever something
    /// is done on the connection, by the one task that drives it.
    pub fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        self.connection.register(cx.waker());
        self.is_gone.load(Ordering::Acquire)
    }

    fn waited_for_since(&self) -> Option<Instant> {
        lock(&self.waits).since.values().map(|(since, _)| *since).min()
    }

    /// The bytes that wait for it.
    fn costs(&self) -> usize {
        let is_stuck = |(since, of): &&(Instant, Of)| *of == Of::Stream && since.elapsed() >= STUCK;
        let stuck = lock(&self.waits).since.values().filter(is_stuck).count();
        self.waiting.load(Ordering::Relaxed) + stuck * STREAM_BYTES
    }
}

impl Waits {
    fn begin(&mut self, of: Of) -> u64 {
        self.next += 1;
        self.since.insert(self.next, (Instant::now(), of));
        self.next
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        lock(&self.patience.clients).connected.remove(&self.number);
    }
}

/// Bytes that are waited with.
struct Taken {
    bytes: Bytes,
    _wait: Wait,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Wait {
    /// Counts so many bytes more.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        let patience = &self.client.patience;
        self.client.waiting.fetch_add(bytes, Ordering::Relaxed);
        let waiting = patience.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting > BUDGET && patience.is_time_to_look() {
            patience.make_room();
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        lock(&self.client.waits).since.remove(&self.number);
        self.client.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
        self.client.patience.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn patience() -> Arc<Patience> {
        Patience::new(LIMIT, Arc::default())
    }

    const LIMIT: Duration = Duration::from_secs(60);

    /// As if it had been waited for so much longer.
    fn age(client: &Client, by: Duration) {
        for (since, _) in lock(&client.waits).since.values_mut() {
            *since = since.checked_sub(by).expect("the machine has run for longer");
        }
        lock(&client.patience.clients).looked = None;
    }

    fn is_gone(client: &Client) -> bool {
        client.is_gone(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn beyond_the_budget_the_one_goes_who_is_waited_for_longest() {
        let patience = patience();
        let (slow, honest) = (patience.client(), patience.client());
        let _kept = slow.wait(BUDGET / 2);
        age(&slow, LEAST);
        drop(honest.wait(BUDGET));
        assert!(is_gone(&slow) && !is_gone(&honest));
    }

    #[test]
    fn nobody_goes_while_little_waits_or_for_what_has_only_just_begun() {
        let patience = patience();
        let (one, other) = (patience.client(), patience.client());
        let little = one.wait(BUDGET / 2);
        age(&one, 10 * LEAST);
        drop(other.wait(BUDGET / 4));
        drop(little);
        let _much = one.wait(BUDGET + 1);
        assert!(!is_gone(&one));
        // Until it is more than can be afforded for any time.
        age(&one, LEAST / 2);
        let _more = other.wait(BUDGET - CALL_BYTES);
        assert!(is_gone(&one) && !is_gone(&other));
        // And nothing more waits for those who have much already, until there is room again.
        assert!(other.wait(0).is_none() && patience.client().wait(0).is_some());
    }

    #[test]
    fn who_takes_an_answer_slowly_but_takes_it_stays() {
        let patience = patience();
        let (slow, stuck) = (patience.client(), patience.client());
        let (_slowly, number) = slow.wait_with(Bytes::from(vec![0; BUDGET / 2]));
        let _not_at_all = stuck.wait_with(Bytes::from(vec![0; BUDGET / 3]));
        age(&slow, 2 * LEAST);
        age(&stuck, LEAST);
        slow.takes_some(number);
        let _more = slow.wait(BUDGET / 2);
        assert!(is_gone(&stuck) && !is_gone(&slow));
    }

    #[test]
    fn nobody_is_waited_for_for_ever() {
        let patience = patience();
        let (slow, honest) = (patience.client(), patience.client());
        let (_for_long, _for_now) = (slow.wait(0), honest.wait(0));
        age(&slow, LIMIT - LEAST);
        patience.look();
        assert!(!is_gone(&slow));
        age(&slow, LEAST);
        patience.look();
        assert!(is_gone(&slow) && !is_gone(&honest));
    }

    #[test]
    fn streams_count_once_they_are_stuck() {
        let patience = patience();
        let (watcher, other) = (patience.client(), patience.client());
        let _told: Vec<_> = (0..=BUDGET / STREAM_BYTES).map(|_| watcher.wait_with_part(Bytes::new())).collect();
        age(&watcher, STUCK / 2);
        patience.look();
        assert!(!is_gone(&watcher));
        age(&watcher, STUCK / 2);
        let _told_now = other.wait_with_part(Bytes::new());
        patience.look();
        assert!(is_gone(&watcher) && !is_gone(&other));
    }

    #[test]
    fn an_answer_is_waited_with_until_all_of_it_is_taken() {
        let patience = patience();
        let client = patience.client();
        let (mut answer, _) = client.wait_with(Bytes::from_static(b"some words"));
        let half = answer.split_to(5);
        drop(answer);
        assert!(client.waited_for_since().is_some());
        assert_eq!(patience.waiting.load(Ordering::Relaxed), CALL_BYTES + 10);
        drop(half);
        assert!(client.waited_for_since().is_none());
        assert_eq!(patience.waiting.load(Ordering::Relaxed), 0);
        drop(client);
        assert!(lock(&patience.clients).connected.is_empty());
    }
}
