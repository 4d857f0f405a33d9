//! Reads what commands are decided on: their events, the reservations they mean, the records of requests carried out
//! before; and, where the event as it stands asks for it, waitlist entries, holds and totals ([`Needs`]).

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use sqlx::{PgConnection, postgres::PgRow};

use super::{
    StoreError,
    columns::Columns,
    tables::{change_columns, event_columns, reservation_columns},
    tx::{LockWait, Tx},
    types::{Count, Micros},
    waitlist,
};
use crate::domain::{
    change::Change,
    command::{Action, Command},
    event::Event,
    ids::{EventId, ReservationId, Target, UserId},
    needs::{Needs, Totals},
    reservation::Reservation,
    snapshot::{Loaded, Snapshot},
    time::Timestamp,
};

/// What some commands are decided on.
#[derive(Debug)]
pub struct Context {
    /// PostgreSQL's time, read after any lock that an earlier statement took.
    pub now: Timestamp,
    /// Those of the commands' events that exist.
    pub snapshots: BTreeMap<EventId, Snapshot>,
}

/// Statements that read a row for each command `q`, as [`statement`] picks them. Most of all calls are Reserves, which
/// need no more than the user's live reservation: a plan half as large.
macro_rules! load_sql {
    ($name:literal, $first:literal, $from:literal) => {
        [
            load_sql!(
                $name,
                $first,
                $from,
                "LATERAL ( -- the one with this id; or the user's live one, or else the newest that ended
                    SELECT r.* FROM reservations r
                     WHERE q.reservation_id IS NOT NULL
                       AND r.event_id = q.event_id AND r.reservation_id = q.reservation_id
                    UNION ALL
                    SELECT r.* FROM reservations r
                     WHERE q.user_id IS NOT NULL
                       AND r.event_id = q.event_id AND r.user_id = q.user_id AND r.live
                    UNION ALL
                    (SELECT r.* FROM reservations r
                      WHERE q.ended_too AND r.event_id = q.event_id AND r.user_id = q.user_id AND r.live IS NULL
                      ORDER BY r.reservation_id DESC LIMIT 1)
                    LIMIT 1) r ON true"
            ),
            load_sql!(
                $name,
                $first,
                $from,
                "reservations r ON r.event_id = q.event_id AND r.user_id = q.user_id AND r.live"
            ),
        ]
    };
    ($name:literal, $first:literal, $from:literal, $reservation:literal) => {
        [
            load_sql!($name, $first, "", $from, "", $reservation),
            load_sql!(
                $name,
                $first,
                concat!(", ", change_columns!()),
                $from,
                " LEFT JOIN changes c ON c.event_id = q.event_id AND c.request_id = q.request_id",
                $reservation
            ),
        ]
    };
    ($name:literal, $first:literal, $change:expr, $from:literal, $record:literal, $reservation:literal) => {
        concat!(
            "-- ",
            $name,
            "\nSELECT ",
            $first,
            "clock_timestamp(), ",
            event_columns!(),
            ", ",
            reservation_columns!(),
            $change,
            " FROM ",
            $from,
            $record,
            " LEFT JOIN ",
            $reservation
        )
    };
}

/// Picks the statement of `load_sql!` for `commands`, and says whether it reads the records of earlier requests.
fn statement(sql: &[[&'static str; 2]; 2], commands: &[&Command]) -> (&'static str, bool) {
    let has_records = commands.iter().any(|command| command.request.is_some());
    let is_simple = commands.iter().all(|command| is_reserve(command));
    (sql[usize::from(is_simple)][usize::from(has_records)], has_records)
}

fn is_reserve(command: &Command) -> bool {
    matches!(command.action, Action::Reserve(_))
}

/// What a command means, as parameters: a user, a reservation by id, and whether the user's ended ones count too.
fn target(command: &Command) -> (Option<UserId>, Option<ReservationId>, bool) {
    match command.target() {
        Some(Target::User(id)) => (Some(id), None, !is_reserve(command)),
        Some(Target::Id(id)) => (None, Some(id), false),
        None => (None, None, false),
    }
}

/// Reads the events of `commands`, at least one, the reservations they mean and the records of their requests, in one
/// statement.
pub async fn read(conn: &mut PgConnection, commands: &[&Command]) -> Result<Context, StoreError> {
    // Only the first command of an event asks for the event's columns.
    const SQL: [[&str; 2]; 2] = load_sql!(
        "load::read",
        "",
        "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bool[])
             AS q (event_id, first_of_event, request_id, user_id, reservation_id, ended_too)
         LEFT JOIN events e ON e.event_id = q.first_of_event"
    );
    let (sql, has_records) = statement(&SQL, commands);

    let event_ids: Vec<_> = commands.iter().map(|command| &command.event_id).collect();
    let mut seen = HashSet::with_capacity(commands.len());
    let firsts: Vec<_> = event_ids.iter().map(|id| seen.insert(*id).then_some(*id)).collect();
    let request_ids: Vec<_> = commands.iter().map(|c| c.request.as_ref().map(|request| &request.id)).collect();
    let (mut user_ids, mut reservation_ids, mut ended_too) = (Vec::new(), Vec::new(), Vec::new());
    for command in commands {
        let (user_id, reservation_id, too) = target(command);
        user_ids.push(user_id);
        reservation_ids.push(reservation_id);
        ended_too.push(too);
    }
    let rows = sqlx::query(sql)
        .bind(&event_ids)
        .bind(firsts)
        .bind(request_ids)
        .bind(user_ids)
        .bind(reservation_ids)
        .bind(ended_too)
        .fetch_all(&mut *conn)
        .await?;
    let mut found = Found::default();
    for row in &rows {
        found.add(Columns::of(row), has_records)?;
    }
    Ok(found.into_context()?)
}

/// Locks the command's event in a transaction that was begun without limits, reads as [`read`] does under that lock,
/// and says how long the lock took. None: there is no such event.
///
/// Where no one else has the lock, nothing waits, and there is nothing to limit.
pub async fn lock_and_read(
    tx: &mut Tx,
    command: &Command,
    wait: LockWait,
) -> Result<Option<(Context, Duration)>, StoreError> {
    match lock_free_and_read(tx, command).await? {
        Some(context) => Ok(Some((context, Duration::ZERO))),
        None => wait_and_read(tx, command, wait).await,
    }
}

/// Locks the event and reads, in one plain statement. None: there is no such event, or it is locked.
async fn lock_free_and_read(conn: &mut PgConnection, command: &Command) -> Result<Option<Context>, StoreError> {
    const SQL: [[&str; 2]; 2] = load_sql!(
        "load::lock_free_and_read",
        "e.version_read, ",
        "(VALUES ($1::text, $2::text, $3::text, $4::uuid, $5::bool))
             AS q (event_id, request_id, user_id, reservation_id, ended_too)
         CROSS JOIN LATERAL ( -- locked as it is now; everything else is as it was when the statement began
             SELECT l.*, (SELECT s.version FROM events s WHERE s.event_id = q.event_id) AS version_read
               FROM events l WHERE l.event_id = q.event_id FOR UPDATE SKIP LOCKED) e"
    );
    let (user_id, reservation_id, ended_too) = target(command);
    let (sql, has_records) = statement(&SQL, &[command]);
    let row = sqlx::query(sql)
        .bind(&command.event_id)
        .bind(command.request.as_ref().map(|request| &request.id))
        .bind(user_id)
        .bind(reservation_id)
        .bind(ended_too)
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut columns = Columns::of(&row);
    let version_read: i64 = columns.get()?;
    let mut found = Found::default();
    found.add(columns, has_records)?;
    let context = found.into_context()?;
    // The lock is that of the row as it is now. The rest was read as it was when the statement began: if the event
    // has changed in between, that is too old.
    let is_one_moment = context.snapshots.values().all(|snapshot| snapshot.event.counters.version == version_read);
    Ok(Some(if is_one_moment { context } else { read(conn, &[command]).await? }))
}

/// Waits for the event's lock, or fails where it is not to wait, and reads.
async fn wait_and_read(
    tx: &mut Tx,
    command: &Command,
    wait: LockWait,
) -> Result<Option<(Context, Duration)>, StoreError> {
    // As a subquery each row becomes its columns, in the order of the lists.
    const SQL: &str = concat!(
        "-- load::wait_and_read\nSELECT f.lock_wait, f.is_repeated, f.now, ",
        event_columns!(),
        ", ",
        reservation_columns!(),
        " FROM lock_and_read($1, $2, $3, $4, $5, $6, $7, $8) AS f,
              LATERAL (SELECT (f.event).*) AS e,
              LATERAL (SELECT (f.reservation).*) AS r"
    );
    let (user_id, reservation_id, ended_too) = target(command);
    let limits = tx.limits();
    let conn = &mut **tx;
    let row = sqlx::query(SQL)
        .bind(limits.statement.to_string())
        .bind(limits.lock.to_string())
        .bind(&command.event_id)
        .bind(wait == LockWait::Wait)
        .bind(command.request.as_ref().map(|request| &request.id))
        .bind(user_id)
        .bind(reservation_id)
        .bind(ended_too)
        .fetch_one(&mut *conn)
        .await?;
    let mut columns = Columns::of(&row);
    let Micros(lock_wait) = columns.get()?;
    let is_repeated: Option<bool> = columns.get()?;
    let now = columns.get()?;
    let Some(event) = columns.optional::<Event>()? else { return Ok(None) };
    if is_repeated == Some(true) {
        // Seldom: what it was answered with is the one thing that the function leaves out.
        return Ok(Some((read(conn, &[command]).await?, lock_wait)));
    }
    let mut snapshot = Snapshot::new(event);
    columns.optional::<Reservation>()?.into_iter().for_each(|found| snapshot.add_reservation(found));
    let snapshots = BTreeMap::from([(command.event_id.clone(), snapshot)]);
    Ok(Some((Context { now, snapshots }, lock_wait)))
}

/// What rows of `load_sql!` say.
#[derive(Default)]
struct Found {
    now: Option<Timestamp>,
    events: Vec<Event>,
    reservations: Vec<Reservation>,
    records: Vec<Change>,
}

impl Found {
    fn add(&mut self, mut columns: Columns<'_>, has_records: bool) -> Result<(), sqlx::Error> {
        self.now = self.now.max(Some(columns.get()?));
        self.events.extend(columns.optional::<Event>()?);
        self.reservations.extend(columns.optional::<Reservation>()?);
        if has_records {
            self.records.extend(columns.optional::<Change>()?);
        }
        Ok(())
    }

    fn into_context(self) -> Result<Context, sqlx::Error> {
        let now = self.now.ok_or_else(|| sqlx::Error::Protocol("no row for a command".into()))?;
        let opened = |event: Event| (event.id.clone(), Snapshot::new(event));
        let mut snapshots: BTreeMap<_, _> = self.events.into_iter().map(opened).collect();
        for reservation in self.reservations {
            if let Some(snapshot) = snapshots.get_mut(&reservation.event_id) {
                snapshot.add_reservation(reservation);
            }
        }
        for record in self.records {
            if let Some(snapshot) = snapshots.get_mut(record.event_id()) {
                snapshot.add_record(record);
            }
        }
        Ok(Context { now, snapshots })
    }
}

/// Reads what is needed of some events. None: one of them has another version than its snapshot was read at.
///
/// An event that has changed since can't be written any more. Only holds are read together with the version: an entry
/// says itself when it last changed.
pub async fn load(
    conn: &mut PgConnection,
    snapshots: &BTreeMap<EventId, Snapshot>,
    needs: &BTreeMap<EventId, Needs>,
    now: Timestamp,
) -> Result<Option<BTreeMap<EventId, Loaded>>, StoreError> {
    let mut loaded: BTreeMap<EventId, Loaded> = needs.keys().map(|id| (id.clone(), Loaded::default())).collect();
    let targets = needs.iter().flat_map(|(id, needs)| needs.entries.iter().map(move |target| (id, target.clone())));
    let targets: Vec<_> = targets.collect();
    if !targets.is_empty() {
        for entry in waitlist::of_targets(conn, &targets).await? {
            if let Some(loaded) = loaded.get_mut(&entry.event_id) {
                loaded.entries.push(entry);
            }
        }
    }
    let asked: Vec<_> = needs.iter().filter_map(|(id, needs)| Some((id, needs.holds?))).collect();
    if !asked.is_empty() && !holds(conn, snapshots, &asked, &mut loaded).await? {
        return Ok(None);
    }
    for (id, needs) in needs {
        let Some(loaded) = loaded.get_mut(id) else { continue };
        if let Some(units) = needs.entries_above {
            loaded.entries.extend(waitlist::larger_than(conn, id, units).await?);
        }
        if let Some(units) = needs.queue {
            let policy = snapshots.get(id).map(|snapshot| snapshot.event.definition.waitlist);
            loaded.is_by_size = policy.is_some_and(|policy| policy.max_skips > 0);
            loaded.entries.extend(waitlist::head(conn, id, units, loaded.is_by_size).await?);
        }
        if needs.totals {
            loaded.totals = Some(totals(conn, id, now).await?);
        }
        if needs.history {
            loaded.was_used = Some(was_used(conn, id).await?);
        }
    }
    Ok(Some(loaded))
}

/// Reads the holds that lapse first, or have lapsed, of some events; so many of each. False: an event is not as it
/// was when its snapshot was read.
async fn holds(
    conn: &mut PgConnection,
    snapshots: &BTreeMap<EventId, Snapshot>,
    asked: &[(&EventId, u32)],
    loaded: &mut BTreeMap<EventId, Loaded>,
) -> Result<bool, StoreError> {
    const SQL: &str = concat!(
        "-- load::holds\nSELECT e.event_id, e.version, ",
        reservation_columns!(),
        " FROM unnest($1::text[], $2::bigint[]) AS q (event_id, most)
          JOIN events e ON e.event_id = q.event_id
          LEFT JOIN LATERAL (
              SELECT * FROM reservations h WHERE h.event_id = q.event_id AND h.state = 'HELD'
               ORDER BY h.expire_time LIMIT q.most) r ON true
          ORDER BY r.expire_time"
    );
    let (event_ids, limits): (Vec<_>, Vec<_>) = asked.iter().map(|(id, most)| (*id, i64::from(*most))).unzip();
    for (id, most) in asked {
        if let Some(loaded) = loaded.get_mut(*id) {
            loaded.holds.1 = *most;
        }
    }
    let rows = sqlx::query(SQL).bind(event_ids).bind(limits).fetch_all(conn).await?;
    for row in &rows {
        let mut columns = Columns::of(row);
        let (event_id, version): (EventId, i64) = (columns.get()?, columns.get()?);
        if snapshots.get(&event_id).is_none_or(|snapshot| snapshot.version_read() != version) {
            return Ok(false);
        }
        if let Some(loaded) = loaded.get_mut(&event_id) {
            loaded.holds.0.extend(columns.optional::<Reservation>()?);
        }
    }
    Ok(true)
}

/// Counts what would end if the event were cancelled at `now`.
async fn totals(conn: &mut PgConnection, event_id: &EventId, now: Timestamp) -> Result<Totals, StoreError> {
    const SQL: &str = "-- load::totals
        SELECT count(*)::integer,
               (count(*) FILTER (WHERE state = 'HELD' AND expire_time <= $2))::integer,
               (SELECT count(*)::integer FROM waitlist WHERE event_id = $1 AND state = 'WAITING')
          FROM reservations WHERE event_id = $1 AND state IN ('HELD', 'CONFIRMED')";
    let read = |row: PgRow| {
        let mut columns = Columns::of(&row);
        let (Count(reservations), Count(lapsed), Count(entries)) = (columns.get()?, columns.get()?, columns.get()?);
        Ok::<_, sqlx::Error>(Totals { reservations, lapsed, entries })
    };
    Ok(read(sqlx::query(SQL).bind(event_id).bind(now).fetch_one(conn).await?)?)
}

/// Whether an event ever had a reservation or an entry: it has a change of one, or its first changes are no longer
/// kept.
async fn was_used(conn: &mut PgConnection, id: &EventId) -> Result<bool, StoreError> {
    const SQL: &str = "-- load::was_used
        SELECT EXISTS (SELECT FROM changes c WHERE c.event_id = $1 AND c.reservation_id IS NOT NULL)
            OR NOT EXISTS (SELECT FROM changes c WHERE c.event_id = $1 AND c.version = 1)";
    Ok(sqlx::query_scalar(SQL).bind(id).fetch_one(conn).await?)
}
