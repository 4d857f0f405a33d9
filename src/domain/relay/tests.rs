//! Tests of `relay`.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    change::{ChangeKind, Subject},
    ids::{ReservationId, UserId},
    reservation::Reservation,
    time::Timestamp,
};

fn change(event: usize, version: i64) -> Change {
    let time = Timestamp::MIN;
    let (id, event_id) = (ReservationId(uuid::Uuid::nil()), EventId::parse(&format!("event-{event}")).expect("an id"));
    let user_id = UserId::parse("ann").expect("an id");
    let reservation = Reservation { version, ..Reservation::new(id, event_id, user_id, 1, time) };
    let subject = Subject::Reservation(Box::new(reservation));
    Change::new(version, ChangeKind::ReservationConfirmed, time, subject)
}

/// The window that the store's statement makes of what is committed.
fn window(committed: &[Fetched], low: i64, high: i64) -> Window {
    let mut changes = Vec::new();
    for event in 0..EVENTS {
        let of_event = || committed.iter().filter(|one| *one.change.event_id() == *change(event, 1).event_id());
        let inside = of_event().filter(|one| (low..high).contains(&one.txid));
        let Some(newest) = inside.map(|one| one.change.version).max() else { continue };
        let below = of_event().filter(|one| one.txid < low && one.change.version < newest);
        let delivered = below.map(|one| one.change.version).max().unwrap_or(0);
        let mut run: Vec<_> =
            of_event().filter(|one| (delivered + 1..=newest).contains(&one.change.version)).cloned().collect();
        run.sort_by_key(|one| one.change.version);
        changes.extend(run);
    }
    Window { low, high, changes }
}

const EVENTS: usize = 3;

proptest! {
    /// Transactions get their ids in one order and commit in another; each writes the next versions of
    /// some events as it commits; windows end at any point below those that still run.
    #[test]
    fn each_version_is_published_once_and_after_the_one_below_it(
        commits in Just((1..=30_i64).collect::<Vec<_>>()).prop_shuffle(),
        writes in prop::collection::vec(prop::collection::vec(0..EVENTS, 1..4), 30),
        polls in prop::collection::vec((any::<bool>(), 0..12_i64), 30),
    ) {
        let (mut committed, mut versions, mut published) = (Vec::new(), [0; EVENTS], vec![Vec::new(); EVENTS]);
        let (mut running, mut ahead, mut low) = (commits.clone(), Ahead::default(), 1);
        for ((txid, events), (polled, width)) in commits.into_iter().zip(writes).zip(polls) {
            for event in events {
                versions[event] += 1;
                committed.push(Fetched { txid, change: change(event, versions[event]) });
            }
            running.retain(|other| *other != txid);
            let fence = running.iter().copied().min().unwrap_or(31);
            let high = if running.is_empty() { fence } else { fence.min(low + width) };
            if (polled || running.is_empty()) && high > low {
                for change in ahead.take(window(&committed, low, high)) {
                    let event = (0..EVENTS).find(|n| super::tests::change(*n, 1).event_id() == change.event_id());
                    published[event.expect("one of them")].push(change.version);
                }
                low = high;
            }
        }
        for (event, published) in published.into_iter().enumerate() {
            prop_assert_eq!(published, (1..=versions[event]).collect::<Vec<_>>());
        }
    }
}
