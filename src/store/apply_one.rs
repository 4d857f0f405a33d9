//! Writes one change of one reservation: what most commands come to where they come one by one. A
//! statement of single values costs PostgreSQL less than the lists of a batch.

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::{apply::Decided, events::labels_or_null};
use crate::domain::{change::Change, event::Counters, reservation::Reservation, time::Timestamp};

/// One change of one reservation, and its event's counters.
pub(super) struct Single<'a> {
    seen_version: i64,
    counters: Counters,
    valid_until: Option<Timestamp>,
    is_new: bool,
    change: &'a Change,
    reservation: &'a Reservation,
}

/// The statement: writes the counters and, if `is_in_time` of those, the reservation and the change.
macro_rules! single_sql {
    ($name:literal, $counted:literal, $reserved:literal) => {
        concat!(
            "-- ",
            $name,
            "\nWITH ",
            $counted,
            ", ",
            $reserved,
            " -- and the change
            INSERT INTO changes (event_id, version, kind, change_time, request_id, fingerprint, reservation_id,
                                 user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason,
                                 labels, create_time, actor)
            SELECT $1, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
              FROM counted WHERE is_in_time
            RETURNING clock_timestamp()"
        )
    };
    ($name:literal, $counted:literal) => {
        [
            single_sql!(
                $name,
                $counted,
                "reserved AS (
                    UPDATE reservations
                       SET quantity = $13, state = $14, expire_time = $15, confirm_time = $16, extensions = $17,
                           cancel_reason = $18, labels = $19, version = $6, update_time = $8
                      FROM counted
                     WHERE is_in_time AND event_id = $1 AND reservation_id = $11)"
            ),
            single_sql!(
                $name,
                $counted,
                "reserved AS ( -- where it is new
                    INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time,
                                              confirm_time, extensions, cancel_reason, labels, version, create_time,
                                              update_time)
                    SELECT $1, $11, $12, $13, $14, $15, $16, $17, $18, $19, $6, $20, $8
                      FROM counted WHERE is_in_time)"
            ),
        ]
    };
}

impl<'a> Single<'a> {
    /// None: it is more than that.
    pub(super) fn of(decided: &[Decided<'a>]) -> Option<Self> {
        let [Decided { seen, commits, .. }] = decided else { return None };
        let [commit] = commits[..] else { return None };
        let [change] = &commit.changes[..] else { return None };
        let reservation = change.reservation()?;
        commit.entries.is_empty().then(|| Self {
            seen_version: seen.version,
            counters: commit.counters,
            valid_until: commit.valid_until,
            is_new: commit.creates == Some(reservation.id),
            change,
            reservation,
        })
    }

    /// See [`apply`](super::apply::apply).
    pub(super) async fn apply(&self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        const SQL: [&str; 2] = single_sql!(
            "apply_one::apply",
            "counted AS (
                UPDATE events SET held = $3, confirmed = $4, version = $6 WHERE event_id = $1 AND version = $2
                RETURNING (clock_timestamp() >= $5) IS NOT TRUE AS is_in_time)"
        );
        Ok(self.query(SQL).execute(conn).await?.rows_affected() > 0)
    }

    /// See [`Alone`](super::apply::Alone). It writes all and tells the time, or nothing.
    pub(super) fn alone(&self, is_presumed: bool) -> Query<'static, Postgres, PgArguments> {
        const SQL: [&str; 2] = single_sql!(
            "apply_one::alone",
            "free AS ( -- of others' locks and changes
                SELECT FROM events
                 WHERE event_id = $1 AND version = $2 AND (clock_timestamp() >= $5) IS NOT TRUE
                   FOR UPDATE SKIP LOCKED),
             counted AS (
                UPDATE events SET held = $3, confirmed = $4, version = $6 FROM free WHERE event_id = $1
                RETURNING true AS is_in_time)"
        );
        const PRESUMED: [&str; 2] = single_sql!(
            "apply_one::alone (presumed)",
            "free AS ( -- and nothing is there that was presumed not to be
                SELECT FROM events
                 WHERE event_id = $1 AND version = $2 AND (clock_timestamp() >= $5) IS NOT TRUE
                   AND NOT EXISTS (SELECT FROM reservations WHERE user_id = $12 AND event_id = $1 AND live)
                   AND NOT EXISTS (SELECT FROM changes WHERE event_id = $1 AND request_id = $9)
                   FOR UPDATE SKIP LOCKED),
             counted AS (
                UPDATE events SET held = $3, confirmed = $4, version = $6 FROM free WHERE event_id = $1
                RETURNING true AS is_in_time)"
        );
        self.query(if is_presumed { PRESUMED } else { SQL })
    }

    fn query(&self, sql: [&'static str; 2]) -> Query<'static, Postgres, PgArguments> {
        let Self { seen_version, counters, valid_until, change, reservation, .. } = self;
        sqlx::query(sql[usize::from(self.is_new)])
            .bind(&reservation.event_id)
            .bind(seen_version)
            .bind(counters.held.cast_signed())
            .bind(counters.confirmed.cast_signed())
            .bind(valid_until)
            .bind(change.version)
            .bind(change.kind)
            .bind(change.time)
            .bind(change.request.as_ref().map(|request| &request.id))
            .bind(change.request.as_ref().map(|request| request.fingerprint))
            .bind(reservation.id)
            .bind(&reservation.user_id)
            .bind(reservation.quantity.cast_signed())
            .bind(reservation.state)
            .bind(reservation.expire_time)
            .bind(reservation.confirm_time)
            .bind(reservation.extensions.cast_signed())
            .bind(reservation.cancel_reason.as_deref())
            .bind(labels_or_null(&reservation.labels))
            .bind(reservation.create_time)
            .bind(change.actor.as_ref())
    }
}
