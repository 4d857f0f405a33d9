//! Tests of `unknown_ids`.

use super::*;
use crate::auth::session_token::SessionToken;

fn id() -> SessionId {
    SessionToken::new().expect("randomness").id()
}

#[tokio::test]
async fn an_id_is_forgotten_after_two_generations() {
    let (start, one) = (Instant::now(), id());
    let mut ids = UnknownIds::new(start);
    assert!(!ids.contains(one, start));
    ids.insert(one, start);
    assert!(ids.contains(one, start + GENERATION) && !ids.contains(id(), start));
    assert!(!ids.contains(one, start + 2 * GENERATION));
    ids.insert(one, start + 2 * GENERATION);
    assert!(!ids.contains(one, start + 5 * GENERATION), "without calls in between");
}

#[tokio::test]
async fn any_number_of_ids_takes_bounded_memory() {
    let (now, one) = (Instant::now(), id());
    let mut ids = UnknownIds::new(now);
    (0..3 * MAX_IDS).for_each(|_| ids.insert(id(), now));
    assert!(ids.recent.len() + ids.older.len() <= 2 * MAX_IDS);
    ids.insert(one, now);
    assert!(ids.contains(one, now));
    ids.remove(one);
    assert!(!ids.contains(one, now));
}
