//! Turns: background work that one server at a time is enough for.
//!
//! They save work, and nothing rests on them: what two servers do at once is right as well.

use sqlx::PgConnection;

use super::StoreError;

/// Background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Releasing lapsed holds.
    Sweep,
    /// Deleting what is older than its retention.
    Forget,
}

/// Takes a turn for the rest of the transaction. False: another server has it.
pub async fn take(conn: &mut PgConnection, turn: Turn) -> Result<bool, StoreError> {
    const SQL: &str = "-- turns::take
        SELECT pg_try_advisory_xact_lock(hashtext('reservd'), $1)";
    Ok(sqlx::query_scalar(SQL).bind(turn as i32).fetch_one(conn).await?)
}
