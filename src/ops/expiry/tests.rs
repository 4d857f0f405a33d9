//! Tests of the watermark.

use super::*;
use crate::domain::ids::{EventId, ReservationId};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000).expect("a time")
}

fn due(now: i64, lapsed: &[i64]) -> Due {
    let hold = |expires: &i64| Lapsed {
        event_id: EventId::parse("e").expect("an id"),
        reservation_id: ReservationId(uuid::Uuid::nil()),
        expire_time: at(*expires),
    };
    Due { now: at(now), lapsed: lapsed.iter().map(hold).collect(), next: None }
}

#[test]
fn the_past_is_skipped_but_for_what_may_be_left_of_it() {
    let (watermark, start) = (ExpiryWatermark::default(), Instant::now());
    assert_eq!(watermark.until(start), Timestamp::MIN, "the first run looks at all holds");
    watermark.note(Timestamp::MIN, &due(1000, &[]), start);
    assert_eq!(watermark.until(start), at(880), "a hold may be committed after its time");
    watermark.note(at(880), &due(2000, &[1500, 1600]), start);
    assert_eq!(watermark.until(start), at(1380), "the holds found may not have been released");
    watermark.note(at(1380), &due(3000, &[]), start + FULL_LOOK_INTERVAL / 2);
    assert_eq!(watermark.until(start + FULL_LOOK_INTERVAL / 2), at(2880));
    assert_eq!(watermark.until(start + FULL_LOOK_INTERVAL), Timestamp::MIN, "now and then a run looks at all holds");
}
