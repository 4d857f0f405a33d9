//! Loads what commands need to see besides the event: the reservations they mean, and the records of
//! requests carried out before.

use sqlx::PgConnection;

use super::{StoreError, columns::Columns};
use crate::{
    change_columns,
    domain::{
        change::Change,
        command::{Command, Target},
        ids::EventId,
        reservation::Reservation,
        time::Timestamp,
    },
    reservation_columns,
};

/// What one command needs to see besides its event.
pub struct Context {
    /// The event.
    pub event_id: EventId,
    /// PostgreSQL's time, read in this statement: after a lock that an earlier statement took.
    pub now: Timestamp,
    /// The event's version in this statement's snapshot.
    pub event_version: i64,
    /// The reservation that the command means.
    pub target: Option<Reservation>,
    /// The change that the command's request_id stands for.
    pub record: Option<Change>,
}

/// Loads the context of each command whose event exists, in one snapshot. Returns them with their
/// place in `commands`.
pub async fn load(conn: &mut PgConnection, commands: &[&Command]) -> Result<Vec<(usize, Context)>, StoreError> {
    const SQL: &str = concat!(
        "-- context::load\nSELECT q.place, q.event_id, (SELECT clock_timestamp()), e.version, ",
        reservation_columns!(),
        ", ",
        change_columns!(),
        " FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) WITH ORDINALITY
               AS q (event_id, reservation_id, user_id, request_id, place)
          JOIN events e ON e.event_id = q.event_id
          LEFT JOIN LATERAL (
              SELECT r.* FROM reservations r
               WHERE q.reservation_id IS NOT NULL
                 AND r.event_id = q.event_id AND r.reservation_id = q.reservation_id
              UNION ALL
              (SELECT r.* FROM reservations r
                WHERE q.user_id IS NOT NULL AND r.event_id = q.event_id AND r.user_id = q.user_id
                ORDER BY r.live NULLS LAST, r.reservation_id DESC LIMIT 1)) r ON true
          LEFT JOIN changes c ON c.event_id = q.event_id AND c.request_id = q.request_id"
    );
    let targets: Vec<_> = commands.iter().map(|command| command.target()).collect();
    let event_ids: Vec<_> = commands.iter().map(|command| &command.event_id).collect();
    let reservation_ids: Vec<_> =
        targets.iter().map(|t| if let Some(Target::Id(id)) = t { Some(id) } else { None }).collect();
    let user_ids: Vec<_> =
        targets.iter().map(|t| if let Some(Target::User(id)) = t { Some(id) } else { None }).collect();
    let request_ids: Vec<_> = commands.iter().map(|c| c.request.as_ref().map(|request| &request.id)).collect();

    let rows =
        sqlx::query(SQL).bind(event_ids).bind(reservation_ids).bind(user_ids).bind(request_ids).fetch_all(conn).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let place: i64 = columns.get()?;
        let context = Context {
            event_id: columns.get()?,
            now: columns.get()?,
            event_version: columns.get()?,
            target: columns.optional_reservation()?,
            record: columns.optional_change()?,
        };
        Ok((usize::try_from(place - 1).unwrap_or_default(), context))
    };
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// The holds of each event that lapse first, or have lapsed, so many of each, in expiry order.
pub async fn earliest_holds(
    conn: &mut PgConnection,
    limits: &[(EventId, u32)],
) -> Result<Vec<Reservation>, StoreError> {
    const SQL: &str = concat!(
        "-- context::earliest_holds\nSELECT ",
        reservation_columns!(),
        " FROM unnest($1::text[], $2::bigint[]) AS q (event_id, most)
          CROSS JOIN LATERAL (
              SELECT * FROM reservations h WHERE h.event_id = q.event_id AND h.state = 'HELD'
               ORDER BY h.expire_time LIMIT q.most) r
          ORDER BY r.expire_time"
    );
    let (event_ids, limits): (Vec<_>, Vec<_>) = limits.iter().map(|(id, limit)| (id, i64::from(*limit))).unzip();
    let rows = sqlx::query(SQL).bind(event_ids).bind(limits).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| Columns::of(row).reservation()).collect::<Result<_, _>>()?)
}
