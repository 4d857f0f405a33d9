//! Tests of the slots.

use super::*;

fn slots(total: usize, per_address: usize, per_connection: usize) -> Arc<PeerSlots> {
    PeerSlots::new(MaxSlots { total, per_address, per_connection })
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

#[test]
fn no_connection_and_no_address_takes_more_than_its_part() {
    let slots = slots(100, 4, 2);
    let taken: Vec<_> = (0..10).map(|n| slots.take(address(1), n / 5)).collect();
    assert_eq!(taken.iter().flatten().count(), 4, "two of each connection");
    let third = slots.take(address(1), 9).expect("one with two makes room");
    assert_eq!(taken.iter().flatten().filter(|slot| slot.evicted.is_cancelled()).count(), 1, "no more of the address");
    assert!(slots.take(address(1), 0).is_none(), "but not for one that would have as many");
    assert!(slots.take(address(2), 10).is_some());
    drop((taken, third));
    assert!(slots.take(address(1), 0).is_some(), "they are free again");
}

#[test]
fn the_fullest_address_makes_room_for_one_with_fewer() {
    let slots = slots(8, 8, 8);
    let greedy: Vec<_> = (0..8).map(|_| slots.take(address(1), 1).expect("a slot")).collect();
    let others: Vec<_> = (2..5).map(|n| slots.take(address(n), u64::from(n)).expect("room is made")).collect();
    let evicted = |slot: &PeerSlot| slot.evicted.is_cancelled();
    assert_eq!(
        greedy.iter().map(evicted).collect::<Vec<_>>(),
        [[true; 3].as_slice(), &[false; 5]].concat(),
        "the oldest"
    );
    assert!(!others.iter().any(evicted));
    assert!(slots.take(address(1), 1).is_none(), "and can't take it back");
}

#[test]
fn equals_do_not_evict_each_other() {
    let slots = slots(4, 4, 4);
    let held: Vec<_> = [1, 1, 2, 2].map(|n| slots.take(address(n), u64::from(n)).expect("a slot")).into();
    assert!(slots.take(address(1), 1).is_none());
    let third = slots.take(address(3), 3).expect("those with two make room for one with none");
    let fourth = slots.take(address(4), 4).expect("and again");
    assert!(slots.take(address(5), 5).is_none(), "but not those with one");
    assert!(!third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
    assert_eq!(held.iter().filter(|slot| slot.evicted.is_cancelled()).count(), 2);
}

#[test]
fn a_connection_makes_room_for_another_of_its_address() {
    let slots = slots(100, 4, 4);
    let held: Vec<_> = (0..4).map(|_| slots.take(address(1), 1).expect("a slot")).collect();
    assert!(slots.take(address(1), 2).is_some(), "one connection does not take all of an address that many share");
    assert!(held[0].evicted.is_cancelled());
}
