//! Writes what was decided, in one round trip, whatever the size of the batch.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use sqlx::{PgConnection, Postgres, Row, postgres::PgArguments, query::Query, types::Json};
use tokio::time::Instant;

use super::{StoreError, apply_one::Single, events::labels_or_null, waitlist::LineWrites};
use crate::domain::{
    caller::Actor,
    change::{Change, ChangeKind, EventRecord},
    decide::Commit,
    event::Counters,
    ids::{EventId, Fingerprint, RequestId, ReservationId, UserId},
    limits::Labels,
    reservation::{Reservation, State},
    time::Timestamp,
};

/// Declares that a struct travels as the composite type of this name, alone and in arrays. The names
/// are those of the migration that makes them.
macro_rules! composite {
    ($row:ident, $name:literal) => {
        impl sqlx::Type<sqlx::Postgres> for $row<'_> {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::with_name($name)
            }
        }

        impl sqlx::postgres::PgHasArrayType for $row<'_> {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::with_name(concat!("_", $name))
            }
        }
    };
}

pub(super) use composite;

#[derive(sqlx::Encode)]
struct EventWrite<'a> {
    event_id: &'a EventId,
    seen_version: i64,
    version: i64,
    held: i32,
    confirmed: i32,
}
composite!(EventWrite, "event_write_1");

#[derive(sqlx::Encode)]
struct ReservationWrite<'a> {
    event_id: &'a EventId,
    reservation_id: ReservationId,
    user_id: &'a UserId,
    quantity: i32,
    state: State,
    expire_time: Option<Timestamp>,
    confirm_time: Option<Timestamp>,
    extensions: i32,
    cancel_reason: Option<&'a str>,
    labels: Option<Json<&'a Labels>>,
    version: i64,
    create_time: Timestamp,
    update_time: Timestamp,
}
composite!(ReservationWrite, "reservation_write_2");

#[derive(sqlx::Encode)]
struct ChangeWrite<'a> {
    event_id: &'a EventId,
    version: i64,
    kind: ChangeKind,
    change_time: Timestamp,
    request_id: Option<&'a RequestId>,
    fingerprint: Option<Fingerprint>,
    reservation_id: Option<ReservationId>,
    user_id: Option<&'a UserId>,
    quantity: Option<i32>,
    state: Option<State>,
    expire_time: Option<Timestamp>,
    confirm_time: Option<Timestamp>,
    extensions: Option<i32>,
    cancel_reason: Option<&'a str>,
    labels: Option<Json<&'a Labels>>,
    create_time: Option<Timestamp>,
    event: Option<Json<&'a EventRecord>>,
    actor: Option<&'a Actor>,
}
composite!(ChangeWrite, "change_write_2");

/// What was decided for one event, by one command or by several in a row.
pub struct Decided<'a> {
    /// The event.
    pub event_id: &'a EventId,
    /// Its counters and version when it was loaded.
    pub seen: Counters,
    /// The commits in the order they were decided.
    pub commits: Vec<&'a Commit>,
}

/// Writes the counters, reservations and changes. False: an event has another version than was seen,
/// or a moment on which a decision rested has come; the transaction must then be rolled back.
pub async fn apply(conn: &mut PgConnection, decided: &[Decided<'_>]) -> Result<bool, StoreError> {
    if let Some(single) = Single::of(decided) {
        return Ok(single.apply(conn).await?);
    }
    const SQL: &str = "-- apply::apply\nSELECT apply_changes_2($1, $2, $3, $4, $5)";
    let Writes { events, known, new, changes } = Writes::of(decided);
    let valid_until = decided.iter().filter_map(Decided::valid_until).min();
    let query = sqlx::query_scalar(SQL).bind(events).bind(known).bind(new).bind(changes).bind(valid_until);
    let applied = query.fetch_one(&mut *conn).await?;
    if let Some(lines) = LineWrites::of(decided).filter(|_| applied) {
        lines.write(conn).await?;
    }
    Ok(applied)
}

/// What was decided, encoded and ready to be sent: one statement that is a transaction of its own. It
/// writes the same for those events that nobody else has locked or changed since they were seen, of which
/// nothing was presumed that is not so, and that no moment has overtaken. It waits for nobody.
pub struct Alone {
    query: Query<'static, Postgres, PgArguments>,
    event_ids: Vec<EventId>,
    /// Whether it tells which events it has written. One that does not has one, and says nothing if it has
    /// not written it.
    tells: bool,
}

/// What was presumed for a new reservation, and not read: that its user has no other live one at the event,
/// and that its request_id is new.
pub struct Presumption<'a> {
    /// The event.
    pub event_id: &'a EventId,
    /// The user.
    pub user_id: &'a UserId,
    /// The request_id, if there is one.
    pub request_id: Option<&'a RequestId>,
}

/// What became of an [`Alone`].
#[derive(Default)]
pub struct Written {
    /// The events that were passed over.
    pub lost: HashSet<EventId>,
    /// PostgreSQL's time, and when it was asked: so old it is at the most. None: nothing was written.
    pub time: Option<(Timestamp, Instant)>,
}

impl Alone {
    /// Writes what was decided. Presumptions go with decisions that touch nobody's place in a waitlist.
    pub fn new(decided: &[Decided<'_>], presumed: &[Presumption<'_>]) -> Self {
        const SQL: &str = "-- apply::alone
            SELECT clock_timestamp(), apply_batch_2($1, $2, $3, $4, $5, $6, $7, $8)";
        const WITH_LINES: &str = "-- apply::alone (with lines)
            SELECT clock_timestamp(), apply_batch_with_lines_1($1, $2, $3, $4, $5, $6, $7, $8)";
        if let Some(single) = Single::of(decided) {
            return Self::of(decided, single.alone(!presumed.is_empty()), false);
        }
        let lines = LineWrites::of(decided);
        let Writes { events, known, new, changes } = Writes::of(decided);
        let users: Vec<_> = presumed.iter().map(|presumption| presumption.user_id).collect();
        let requests = presumed.iter().map(|presumption| presumption.request_id);
        if let ([event], [one], true, None) = (&events[..], decided, known.is_empty(), &lines) {
            let requests = requests.flatten().collect();
            return Self::of(decided, reserve_alone(event, one.valid_until(), new, changes, users, requests), false);
        }
        let valid_until: Vec<_> = decided.iter().map(Decided::valid_until).collect();
        let sql = if lines.is_some() { WITH_LINES } else { SQL };
        let query = sqlx::query(sql).bind(events).bind(valid_until).bind(known).bind(new).bind(changes);
        let query = match lines {
            Some(lines) => query.bind(lines.counts).bind(lines.entries).bind(lines.changes),
            None => {
                let event_ids: Vec<_> = presumed.iter().map(|presumption| presumption.event_id).collect();
                query.bind(event_ids).bind(users).bind(requests.collect::<Vec<_>>())
            }
        };
        Self::of(decided, query, true)
    }

    fn of(decided: &[Decided<'_>], query: Query<'static, Postgres, PgArguments>, tells: bool) -> Self {
        Self { query, event_ids: decided.iter().map(|decided| decided.event_id.clone()).collect(), tells }
    }

    /// Runs it. Where the connection breaks meanwhile, it is unknown whether anything was written.
    pub async fn write(self, conn: &mut PgConnection) -> Result<Written, StoreError> {
        let Self { query, mut event_ids, tells } = self;
        let asked = Instant::now();
        let row = outcome(query.fetch_optional(conn).await)?;
        let time = row.as_ref().map(|row| row.try_get(0)).transpose()?.map(|now| (now, asked));
        if let Some(row) = row.filter(|_| tells) {
            let written: HashSet<EventId> = row.try_get::<Vec<_>, _>(1)?.into_iter().collect();
            event_ids.retain(|id| !written.contains(id));
        } else if time.is_some() {
            event_ids.clear();
        }
        Ok(Written { lost: event_ids.into_iter().collect(), time })
    }
}

/// New reservations of one event: the batch that a crowd comes to.
fn reserve_alone(
    event: &EventWrite<'_>,
    valid_until: Option<Timestamp>,
    new: Vec<ReservationWrite<'_>>,
    changes: Vec<ChangeWrite<'_>>,
    presumed_users: Vec<&UserId>,
    presumed_requests: Vec<&RequestId>,
) -> Query<'static, Postgres, PgArguments> {
    const SQL: &str = "-- apply::reserve_alone
        WITH free AS (
            SELECT FROM events
             WHERE event_id = $1 AND version = $2 AND (clock_timestamp() >= $6) IS NOT TRUE
               -- What was presumed: so it still is under the lock, where the version is the one that was seen.
               -- LIMIT keeps a plan from beginning with all rows of the event, as it may on empty tables.
               AND NOT EXISTS (SELECT FROM unnest($9::text[]) AS q (user_id), LATERAL (
                                   SELECT FROM reservations r
                                    WHERE r.user_id = q.user_id AND r.event_id = $1 AND r.live LIMIT 1) AS found)
               AND NOT EXISTS (SELECT FROM unnest($10::text[]) AS q (request_id), LATERAL (
                                   SELECT FROM changes c
                                    WHERE c.event_id = $1 AND c.request_id = q.request_id LIMIT 1) AS found)
               FOR UPDATE SKIP LOCKED),
        counted AS (
            UPDATE events SET held = $3, confirmed = $4, version = $5 FROM free WHERE event_id = $1
            RETURNING version),
        reserved AS (
            INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, confirm_time,
                                      extensions, cancel_reason, labels, version, create_time, update_time)
            SELECT w.event_id, w.reservation_id, w.user_id, w.quantity, w.state, w.expire_time, w.confirm_time,
                   w.extensions, w.cancel_reason, w.labels, w.version, w.create_time, w.update_time
              FROM counted, unnest($7) AS w),
        changed AS (
            INSERT INTO changes (event_id, version, kind, change_time, request_id, fingerprint, reservation_id,
                                 user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason,
                                 labels, create_time, event, actor)
            SELECT w.event_id, w.version, w.kind, w.change_time, w.request_id, w.fingerprint, w.reservation_id,
                   w.user_id, w.quantity, w.state, w.expire_time, w.confirm_time, w.extensions, w.cancel_reason,
                   w.labels, w.create_time, w.event, w.actor
              FROM counted, unnest($8) AS w)
        SELECT clock_timestamp() FROM counted";
    sqlx::query(SQL)
        .bind(event.event_id)
        .bind(event.seen_version)
        .bind(event.held)
        .bind(event.confirmed)
        .bind(event.version)
        .bind(valid_until)
        .bind(new)
        .bind(changes)
        .bind(presumed_users)
        .bind(presumed_requests)
}

/// How a statement ended that is a transaction of its own: unless PostgreSQL says that it failed, it
/// may have been committed.
fn outcome<T>(result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    result.map_err(|error| match error {
        error @ sqlx::Error::Database(_) => error.into(),
        error => StoreError::OutcomeUnknown(error),
    })
}

/// Writes changes alone: of events that the same transaction has just inserted.
pub async fn record(conn: &mut PgConnection, changes: &[Change]) -> Result<(), StoreError> {
    const SQL: &str = "-- apply::record\nSELECT apply_changes_2('{}', '{}', '{}', $1, NULL)";
    let changes: Vec<_> = changes.iter().map(change_write).collect();
    sqlx::query(SQL).bind(changes).execute(conn).await?;
    Ok(())
}

impl Decided<'_> {
    /// When what was decided is no longer right.
    fn valid_until(&self) -> Option<Timestamp> {
        self.commits.iter().filter_map(|commit| commit.valid_until).min()
    }
}

/// The rows to write.
struct Writes<'a> {
    events: Vec<EventWrite<'a>>,
    /// Reservations that were there, each once, as the last commit leaves it.
    known: Vec<ReservationWrite<'a>>,
    /// Reservations that come into being, likewise.
    new: Vec<ReservationWrite<'a>>,
    changes: Vec<ChangeWrite<'a>>,
}

impl<'a> Writes<'a> {
    fn of(decided: &[Decided<'a>]) -> Self {
        let commits = || decided.iter().flat_map(|decided| decided.commits.iter().copied());
        let (mut known, mut new) = (Vec::new(), Vec::new());
        let mut places: HashMap<(&EventId, ReservationId), (bool, usize)> = HashMap::new();
        for commit in commits() {
            for reservation in commit.changes.iter().filter_map(Change::reservation) {
                let row = reservation_write(reservation);
                match places.entry((&reservation.event_id, reservation.id)) {
                    Entry::Occupied(place) => {
                        let (is_new, place) = *place.get();
                        let rows = if is_new { &mut new } else { &mut known };
                        rows[place] = row;
                    }
                    Entry::Vacant(place) => {
                        let is_new = commit.creates == Some(reservation.id);
                        let rows = if is_new { &mut new } else { &mut known };
                        place.insert((is_new, rows.len()));
                        rows.push(row);
                    }
                }
            }
        }
        Self {
            events: decided.iter().filter_map(event_write).collect(),
            known,
            new,
            changes: commits()
                .flat_map(|commit| &commit.changes)
                .filter(|change| change.entry().is_none()) // those of lines are written with these
                .map(change_write)
                .collect(),
        }
    }
}

fn event_write<'a>(decided: &Decided<'a>) -> Option<EventWrite<'a>> {
    let Counters { held, confirmed, version, .. } = decided.commits.last()?.counters;
    Some(EventWrite {
        event_id: decided.event_id,
        seen_version: decided.seen.version,
        version,
        held: held.cast_signed(),
        confirmed: confirmed.cast_signed(),
    })
}

fn reservation_write(reservation: &Reservation) -> ReservationWrite<'_> {
    ReservationWrite {
        event_id: &reservation.event_id,
        reservation_id: reservation.id,
        user_id: &reservation.user_id,
        quantity: reservation.quantity.cast_signed(),
        state: reservation.state,
        expire_time: reservation.expire_time,
        confirm_time: reservation.confirm_time,
        extensions: reservation.extensions.cast_signed(),
        cancel_reason: reservation.cancel_reason.as_deref(),
        labels: labels_or_null(&reservation.labels),
        version: reservation.version,
        create_time: reservation.create_time,
        update_time: reservation.update_time,
    }
}

fn change_write(change: &Change) -> ChangeWrite<'_> {
    let reservation = change.reservation();
    ChangeWrite {
        event_id: change.event_id(),
        version: change.version,
        kind: change.kind,
        change_time: change.time,
        request_id: change.request.as_ref().map(|request| &request.id),
        fingerprint: change.request.as_ref().map(|request| request.fingerprint),
        reservation_id: reservation.map(|r| r.id),
        user_id: reservation.map(|r| &r.user_id),
        quantity: reservation.map(|r| r.quantity.cast_signed()),
        state: reservation.map(|r| r.state),
        expire_time: reservation.and_then(|r| r.expire_time),
        confirm_time: reservation.and_then(|r| r.confirm_time),
        extensions: reservation.map(|r| r.extensions.cast_signed()),
        cancel_reason: reservation.and_then(|r| r.cancel_reason.as_deref()),
        labels: reservation.and_then(|r| labels_or_null(&r.labels)),
        create_time: reservation.map(|r| r.create_time),
        event: change.event().map(Json),
        actor: change.actor.as_ref(),
    }
}
