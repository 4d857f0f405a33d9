//! Serves those who wait, in the transaction that frees the places.

use sqlx::PgConnection;

use crate::{
    domain::{
        decide::{Commit, promote},
        snapshot::Snapshot,
        time::Timestamp,
    },
    store::{StoreError, waitlist},
};

/// Decides who gets the places that are free after a commit, until none is left that fits anybody
/// whose turn it is. Without anybody in line, or without a free place, it costs nothing.
pub(super) async fn serve(
    conn: &mut PgConnection,
    snapshot: &mut Snapshot,
    now: Timestamp,
) -> Result<Vec<Commit>, StoreError> {
    if !snapshot.event.may_promote(now) {
        return Ok(Vec::new());
    }
    let (event, line) = (&snapshot.event, &mut snapshot.line);
    if let Some(units) = line.units_to_load(event.available(), event.counters.waiting) {
        let may_skip = event.definition.waitlist.max_skips > 0;
        waitlist::line(conn, &event.id, units, may_skip).await?.into_iter().for_each(|entry| line.add(entry));
        line.is_loaded_for(units);
    }
    let mut promotions = Vec::new();
    while let Some(promotion) = promote(snapshot, now) {
        snapshot.advance(&promotion);
        promotions.push(promotion);
    }
    Ok(promotions)
}
