//! Rate limits: one token bucket for each name, stored as the time at which it is full again (GCRA). A full bucket
//! needs no entry, so the memory is bounded by the recent use.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Shards of the buckets, each with its own lock.
const SHARDS: usize = 16;
/// Buckets in one shard that are not full. Further names share one bucket.
const MAX_BUCKETS: usize = 4096;
/// How often at most full buckets are removed from a shard without room.
const CLEANUP_INTERVAL: Duration = Duration::from_millis(100);

/// A bucket for each name.
pub struct RateLimit {
    /// The time in which one token is refilled.
    refill: Duration,
    /// The time in which an empty bucket is refilled.
    burst: Duration,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    full_again: HashMap<u64, Instant>,
    shared: Option<Instant>,
    cleaned: Option<Instant>,
}

impl RateLimit {
    /// Buckets of `burst` tokens, refilled with `per_second` tokens. None if that is 0: no limit.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let refill = Duration::from_secs(1).checked_div(per_second)?;
        Some(Self { refill, burst: refill * burst, shards: Default::default(), hasher: RandomState::new() })
    }

    /// Takes a token from the bucket of this name, or returns the time until there is one.
    pub fn take(&self, name: &(impl Hash + ?Sized), now: Instant) -> Result<(), Duration> {
        self.peek_or_take(name, now, true)
    }

    /// Whether the bucket of this name has a token, or else the time until there is one.
    pub fn peek(&self, name: &(impl Hash + ?Sized), now: Instant) -> Result<(), Duration> {
        self.peek_or_take(name, now, false)
    }

    fn peek_or_take(&self, name: &(impl Hash + ?Sized), now: Instant, takes: bool) -> Result<(), Duration> {
        // Names with the same hash share a bucket. The seed is random, so a caller cannot construct such names.
        let hash = self.hasher.hash_one(name);
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[shard].lock();
        let full_again = shard.bucket(hash, now);
        let then = (*full_again).max(now) + self.refill;
        let wait = then.duration_since(now).saturating_sub(self.burst);
        if wait.is_zero() {
            if takes {
                *full_again = then;
            }
            return Ok(());
        }
        Err(wait)
    }
}

/// A rate limit for a line of the log that others can cause: they must not be able to fill a disk.
pub struct LogLimit {
    limit: Option<RateLimit>,
    unlogged: AtomicU64,
}

impl LogLimit {
    /// As [`RateLimit::new`].
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { limit: RateLimit::new(per_second, burst), unlogged: AtomicU64::new(0) }
    }

    /// How many lines were left out since the last; none: leave this one out too.
    pub fn take(&self) -> Option<u64> {
        if self.limit.as_ref().is_some_and(|limit| limit.take("", Instant::now()).is_err()) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }
}

impl Shard {
    fn bucket(&mut self, hash: u64, now: Instant) -> &mut Instant {
        let Self { full_again, shared, cleaned } = self;
        let has_room = |buckets: &HashMap<_, _>| buckets.len() < MAX_BUCKETS || buckets.contains_key(&hash);
        if !has_room(full_again) && cleaned.is_none_or(|last| now.duration_since(last) >= CLEANUP_INTERVAL) {
            full_again.retain(|_, at| *at > now);
            *cleaned = Some(now);
        }
        if has_room(full_again) { full_again.entry(hash).or_insert(now) } else { shared.get_or_insert(now) }
    }
}

#[cfg(test)]
mod tests;
