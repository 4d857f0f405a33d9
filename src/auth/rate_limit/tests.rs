//! Tests of `rate_limit`.

use super::*;

#[test]
fn a_burst_passes_then_calls_at_the_refill_rate() {
    let (limit, start) = (RateLimit::new(10, 5).expect("a limit"), Instant::now());
    for _ in 0..5 {
        assert_eq!(limit.take("ann", start), Ok(()));
    }
    assert_eq!(limit.take("ann", start), Err(Duration::from_millis(100)));
    assert_eq!(limit.take("bob", start), Ok(()), "each name has its own bucket");
    let later = start + Duration::from_millis(250);
    assert_eq!([(); 3].map(|()| limit.take("ann", later).is_ok()), [true, true, false]);
    let much_later = start + Duration::from_secs(3600);
    let passed = (0..100).filter(|_| limit.take("ann", much_later).is_ok()).count();
    assert_eq!(passed, 5, "a bucket never holds more than a burst");
}

#[test]
fn no_rate_is_no_limit() {
    assert!(RateLimit::new(0, 100).is_none());
}

#[test]
fn a_flood_of_names_gets_neither_more_memory_nor_more_calls() {
    let (limit, now) = (RateLimit::new(1, 1).expect("a limit"), Instant::now());
    let most = SHARDS * MAX_BUCKETS;
    let passed = (0..2 * most).filter(|number| limit.take(number, now).is_ok()).count();
    let kept = || -> usize { limit.shards.iter().map(|shard| shard.lock().full_again.len()).sum() };
    assert!(passed <= most + SHARDS && kept() <= most, "{passed} passed, {} kept", kept());
    assert!(limit.take(&0, now).is_err(), "a bucket in use is kept");
    let later = now + Duration::from_secs(2);
    assert!((0..most / 2).all(|number| limit.take(&(10 * most + number), later).is_ok()), "full buckets make room");
}

#[tokio::test(start_paused = true)]
async fn lines_beyond_the_limit_are_counted_for_the_next() {
    let limit = LogLimit::new(1, 2);
    let taken: Vec<_> = (0..5).map(|_| limit.take()).collect();
    assert_eq!(taken, [Some(0), Some(0), None, None, None]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(limit.take(), Some(3));
}
