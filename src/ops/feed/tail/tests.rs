//! What a tail remembers, and what it finds.

use super::*;
use crate::domain::{
    change::{ChangeKind, Subject},
    ids::{ReservationId, UserId},
    limits::Labels,
    reservation::Reservation,
    time::Timestamp,
};

fn now() -> Timestamp {
    Timestamp::from_micros(0).expect("a time")
}

fn change(version: i64, label_bytes: usize) -> Change {
    let labels = Labels([("k".to_owned(), "x".repeat(label_bytes))].into());
    let (id, event_id) = (ReservationId(uuid::Uuid::nil()), EventId::parse("e").expect("an id"));
    let user_id = UserId::parse("u").expect("an id");
    let reservation = Reservation { labels, version, ..Reservation::new(id, event_id, user_id, 1, now()) };
    let subject = Subject::Reservation(Box::new(reservation));
    Change::new(version, ChangeKind::ReservationHeld, now(), subject)
}

fn news(versions: impl IntoIterator<Item = i64>, event_version: i64, label_bytes: usize) -> News {
    News {
        changes: versions.into_iter().map(|version| change(version, label_bytes)).collect(),
        state: EventState::Open,
        capacity: 5,
        counters: Counters { held: 1, version: event_version, ..Counters::default() },
        now: now(),
    }
}

fn recent(version: i64, most_bytes: usize) -> Recent {
    Recent { pages: VecDeque::new(), bytes: 0, most_bytes, version }
}

fn cut(news: News) -> Vec<Page> {
    pages(news, PAGE_BYTES)
}

/// The versions of a page's changes.
fn versions(page: &Page) -> Vec<i64> {
    page.changes.iter().map(|change| change.version).collect()
}

#[test]
fn pages_are_bounded_and_follow_each_other() {
    let pages = cut(news(5..=104, 104, 10_000));
    assert!(pages.len() > 1 && pages.iter().all(|page| page.footprint() <= PAGE_BYTES));
    assert_eq!(pages.iter().flat_map(versions).collect::<Vec<_>>(), (5..=104).collect::<Vec<_>>());
    for (before, page) in pages.iter().zip(&pages[1..]) {
        assert_eq!(page.after, before.version());
        assert!(before.counts.is_none(), "counts are those of the last version only");
    }
    assert!(pages.last().expect("some").counts.is_some());
}

#[test]
fn a_change_larger_than_a_page_is_a_page() {
    assert_eq!(cut(news(1..=2, 2, PAGE_BYTES)).len(), 2);
}

#[test]
fn a_page_ends_where_changes_are_missing() {
    let mut news = news(1..=5, 5, 0);
    news.changes.remove(2);
    let pages = cut(news);
    assert_eq!(pages.iter().map(versions).collect::<Vec<_>>(), [vec![1, 2], vec![4, 5]]);
    assert_eq!(pages[1].after, 3);
}

#[test]
fn counts_are_told_only_with_all_the_changes_that_made_them() {
    assert!(cut(news(1..=3, 4, 0))[0].counts.is_none());
    let nothing = News { changes: Vec::new(), ..news(1..=1, 4, 0) };
    assert!(cut(nothing).is_empty());
}

#[test]
fn who_is_level_waits_and_who_is_not_finds_the_page_with_the_change_that_follows() {
    let mut recent = recent(4, usize::MAX);
    assert!(matches!(recent.after(4), Next::Nothing));
    assert!(matches!(recent.after(9), Next::Nothing), "who has read more than the tail waits for it");
    assert!(matches!(recent.after(3), Next::Forgotten), "the tail began later");
    for versions in [5..=6, 7..=7, 8..=10] {
        let end = *versions.end();
        cut(news(versions, end, 0)).into_iter().for_each(|page| recent.push(page));
    }
    for (version, expected) in [(4, 5..=6), (5, 5..=6), (6, 7..=7), (7, 8..=10), (9, 8..=10)] {
        let Next::Page(page) = recent.after(version) else { panic!("{version}: {:?}", recent.after(version)) };
        assert_eq!(versions(&page), expected.collect::<Vec<_>>(), "after {version}");
    }
    assert!(matches!(recent.after(10), Next::Nothing));
    assert!(matches!(recent.after(3), Next::Forgotten));
}

#[test]
fn the_buffer_is_bounded_and_drops_the_oldest_first() {
    let mut recent = recent(0, 5 * change(1, 100).footprint());
    for version in 1..=20 {
        cut(news(version..=version, version, 100)).into_iter().for_each(|page| recent.push(page));
    }
    assert_eq!(recent.pages.len(), 5);
    assert!(matches!(recent.after(14), Next::Forgotten));
    assert!(matches!(recent.after(15), Next::Page(page) if versions(&page) == [16]));
    // The newest page stays, however large.
    cut(news(21..=21, 21, 10_000)).into_iter().for_each(|page| recent.push(page));
    assert!(matches!(recent.after(20), Next::Page(_)));
    assert!(matches!(recent.after(19), Next::Forgotten));
}

#[test]
fn no_watcher_crosses_a_gap() {
    let mut recent = recent(0, usize::MAX);
    cut(news(1..=2, 2, 0)).into_iter().for_each(|page| recent.push(page));
    cut(news(5..=6, 6, 0)).into_iter().for_each(|page| recent.push(page));
    for version in [0, 2, 3] {
        assert!(matches!(recent.after(version), Next::Forgotten), "after {version}");
    }
    assert!(matches!(recent.after(4), Next::Page(page) if versions(&page) == [5, 6]));
}
