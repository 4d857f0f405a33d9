//! Locks for background work that one server at a time should do. A lock ends with its connection.
//!
//! They only save work: it stays correct if two servers do it at once.

use sqlx::PgConnection;

use super::StoreError;

/// Background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Releasing lapsed holds.
    Expiry,
    /// Deleting what is older than its retention.
    Retention,
}

/// Takes a lock for the rest of the transaction. False: another server has it.
pub async fn try_lock_in_transaction(conn: &mut PgConnection, work: Work) -> Result<bool, StoreError> {
    const SQL: &str =
        "-- worker_locks::try_lock_in_transaction\nSELECT pg_try_advisory_xact_lock(hashtext('reservd'), $1)";
    Ok(sqlx::query_scalar(SQL).bind(work as i32).fetch_one(conn).await?)
}

/// Takes a lock until [`unlock`]. False: another server has it.
pub async fn try_lock(conn: &mut PgConnection, work: Work) -> Result<bool, StoreError> {
    const SQL: &str = "-- worker_locks::try_lock\nSELECT pg_try_advisory_lock(hashtext('reservd'), $1)";
    Ok(sqlx::query_scalar(SQL).bind(work as i32).fetch_one(conn).await?)
}

/// Gives a lock back.
pub async fn unlock(conn: &mut PgConnection, work: Work) -> Result<(), StoreError> {
    const SQL: &str = "-- worker_locks::unlock\nSELECT pg_advisory_unlock(hashtext('reservd'), $1)";
    sqlx::query(SQL).bind(work as i32).execute(conn).await?;
    Ok(())
}
