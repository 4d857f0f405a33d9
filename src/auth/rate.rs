//! How often one may call: a token bucket for each name, as the moment at which it will be full again
//! (GCRA). A bucket that is full again is the same as none, so what is kept is bounded by what is used.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Buckets are spread over so many tables, each with a lock of its own.
const TABLES: usize = 16;
/// Buckets in one table that are not full. Further names share one.
const MAX_BUCKETS: usize = 4096;
/// How often at the most a full table is searched for buckets that can go.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A bucket for each name.
pub struct Buckets {
    /// The time that one call takes to be forgotten.
    each: Duration,
    /// The time that a whole burst takes.
    burst: Duration,
    tables: [Mutex<Table>; TABLES],
    hasher: RandomState,
}

#[derive(Default)]
struct Table {
    full_again: HashMap<u64, Instant>,
    shared: Option<Instant>,
    swept: Option<Instant>,
}

impl Buckets {
    /// Buckets of `burst` calls, filled again with `per_second`. None where that is 0: no limit.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let each = Duration::from_secs(1).checked_div(per_second)?;
        Some(Self { each, burst: each * burst, tables: Default::default(), hasher: RandomState::new() })
    }

    /// Takes one from the bucket of this name, or tells how long to wait for that.
    pub fn take(&self, name: &(impl Hash + ?Sized), now: Instant) -> Result<(), Duration> {
        // By hash: two names that have the same one share a bucket, which nobody can bring about.
        let hash = self.hasher.hash_one(name);
        let place = usize::try_from(hash % TABLES as u64).unwrap_or(0);
        let mut table = self.tables[place].lock().unwrap_or_else(PoisonError::into_inner);
        let full_again = table.bucket(hash, now);
        let then = (*full_again).max(now) + self.each;
        let wait = then.duration_since(now).saturating_sub(self.burst);
        if wait.is_zero() {
            *full_again = then;
            return Ok(());
        }
        Err(wait)
    }
}

impl Table {
    fn bucket(&mut self, hash: u64, now: Instant) -> &mut Instant {
        let Self { full_again, shared, swept } = self;
        let has_room = |buckets: &HashMap<_, _>| buckets.len() < MAX_BUCKETS || buckets.contains_key(&hash);
        if !has_room(full_again) && swept.is_none_or(|last| now.duration_since(last) >= SWEEP_PAUSE) {
            full_again.retain(|_, at| *at > now);
            *swept = Some(now);
        }
        if has_room(full_again) { full_again.entry(hash).or_insert(now) } else { shared.get_or_insert(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_as_many_as_the_rate_fills_in() {
        let (buckets, start) = (Buckets::new(10, 5).expect("a limit"), Instant::now());
        for _ in 0..5 {
            assert_eq!(buckets.take("ann", start), Ok(()));
        }
        assert_eq!(buckets.take("ann", start), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take("bob", start), Ok(()), "each has a bucket of its own");
        let later = start + Duration::from_millis(250);
        assert_eq!([(); 3].map(|()| buckets.take("ann", later).is_ok()), [true, true, false]);
        let much_later = start + Duration::from_secs(3600);
        let passed = (0..100).filter(|_| buckets.take("ann", much_later).is_ok()).count();
        assert_eq!(passed, 5, "a bucket never holds more than a burst");
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(Buckets::new(0, 100).is_none());
    }

    #[test]
    fn many_names_take_no_more_room_and_get_no_more_calls() {
        let (buckets, now) = (Buckets::new(1, 1).expect("a limit"), Instant::now());
        let most = TABLES * MAX_BUCKETS;
        let passed = (0..2 * most).filter(|number| buckets.take(number, now).is_ok()).count();
        let kept =
            || -> usize { buckets.tables.iter().map(|table| table.lock().expect("whole").full_again.len()).sum() };
        assert!(passed <= most + TABLES && kept() <= most, "{passed} passed, {} kept", kept());
        assert!(buckets.take(&0, now).is_err(), "a bucket that is in use is not forgotten");
        let later = now + Duration::from_secs(2);
        assert!((0..most / 2).all(|number| buckets.take(&(10 * most + number), later).is_ok()), "room comes back");
    }
}
