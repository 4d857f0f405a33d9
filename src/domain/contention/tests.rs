//! Tests of `contention`.

use super::*;

#[test]
fn a_queue_is_coalesced_meetings_wait_and_strangers_need_no_lock() {
    let load = |conflicts, waiting| Load { commands: 100, conflicts, waiting: Duration::from_millis(waiting) };
    let window = Duration::from_secs(10);
    for (load, advice) in [
        (load(0, 15_000), Advice::Coalesced),
        (load(150, 0), Advice::Coalesced),
        (load(0, 1_000), Advice::Pessimistic),
        (load(10, 0), Advice::Pessimistic),
        (load(1, 20), Advice::Optimistic),
        (Load::default(), Advice::Optimistic),
    ] {
        assert_eq!(advise(load, window), advice, "{load:?}");
    }
}
