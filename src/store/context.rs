//! Loads what commands need to see: their events, the reservations they mean, the records of requests
//! carried out before, holds that may make room, and waitlist entries.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use sqlx::PgConnection;

use super::{
    StoreError,
    columns::Columns,
    tx::{Limits, LockWait, Tx},
    waitlist,
};
use crate::{
    change_columns,
    domain::{
        change::Change,
        command::{Action, Command, Target},
        event::Event,
        ids::{EventId, ReservationId, UserId},
        reservation::Reservation,
        snapshot::Snapshot,
        time::Timestamp,
    },
    event_columns, reservation_columns,
};

/// What some commands are decided on.
pub struct Context {
    /// PostgreSQL's time, read after any lock that an earlier statement took.
    pub now: Timestamp,
    /// Those of the commands' events that exist.
    pub snapshots: BTreeMap<EventId, Snapshot>,
}

/// Statements that load a row for each command `q`, as [`statement`] picks them. Most of all calls are
/// Reserves, which need to see nothing but the user's live reservation: a plan half as large.
macro_rules! load_sql {
    ($name:literal, $first:literal, $from:literal) => {
        [
            load_sql!(
                $name,
                $first,
                $from,
                "LATERAL ( -- the one of this id; or the user's live one, or else the newest that ended
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

/// Picks the statement of `load_sql!` for `commands`, and says whether it looks for what earlier requests
/// were answered.
fn statement(sql: &[[&'static str; 2]; 2], commands: &[&Command]) -> (&'static str, bool) {
    let has_records = commands.iter().any(|command| command.request.is_some());
    let is_simple = commands.iter().all(|command| is_reserve(command));
    (sql[usize::from(is_simple)][usize::from(has_records)], has_records)
}

fn is_reserve(command: &Command) -> bool {
    matches!(command.action, Action::Reserve(_))
}

/// The user, or the reservation by id, that a command means.
fn whose(command: &Command) -> (Option<UserId>, Option<ReservationId>) {
    match command.target() {
        Some(Target::User(id)) => (Some(id), None),
        Some(Target::Id(id)) => (None, Some(id)),
        None => (None, None),
    }
}

/// Loads what `commands`, at least one, are decided on, as it is at one moment. None: an event has
/// changed while it was read, which can't happen under its lock.
pub async fn load(conn: &mut PgConnection, commands: &[&Command]) -> Result<Option<Context>, StoreError> {
    let mut context = load_without_holds(conn, commands).await?;
    let short = context.short_of_units(commands);
    let is_one_moment = short.is_empty() || load_holds(conn, &mut context, &short).await?;
    Ok(is_one_moment.then_some(context))
}

impl Context {
    /// The events in which `commands` may need more units than are free, and how many more: there,
    /// lapsed holds count.
    pub fn short_of_units(&self, commands: &[&Command]) -> Vec<(EventId, u32)> {
        let mut needs: BTreeMap<&EventId, u32> = BTreeMap::new();
        for command in commands {
            if let Some(snapshot) = self.snapshots.get(&command.event_id) {
                let need = needs.entry(&command.event_id).or_default();
                *need = need.saturating_add(command.needs(&snapshot.event));
            }
        }
        let short = |(id, need): (&EventId, u32)| {
            let short = need.saturating_sub(self.snapshots.get(id)?.event.available());
            (short > 0).then(|| (id.clone(), short))
        };
        needs.into_iter().filter_map(short).collect()
    }
}

/// Locks the command's event in a transaction that was begun without limits, loads what the command is
/// decided on as it is under that lock, and says how long the lock took. None: there is no such event.
///
/// Where nobody else has the lock, nothing waits, and there is nothing to limit.
pub async fn lock_and_load(
    tx: &mut Tx,
    command: &Command,
    wait: LockWait,
) -> Result<Option<(Context, Duration)>, StoreError> {
    let found = match lock_free_and_load(tx, command).await? {
        Some(context) => Some((context, Duration::ZERO)),
        None => wait_and_load(tx, command, wait).await?,
    };
    let Some((mut context, lock_wait)) = found else { return Ok(None) };
    load_entries(tx, &mut context, &[command]).await?;
    let short = context.short_of_units(&[command]);
    if !short.is_empty() && !load_holds(tx, &mut context, &short).await? {
        return Err(sqlx::Error::Protocol("an event changed under its lock".into()).into());
    }
    Ok(Some((context, lock_wait)))
}

/// Locks the event and loads, in one plain statement. None: there is no such event, or somebody has its lock.
async fn lock_free_and_load(conn: &mut PgConnection, command: &Command) -> Result<Option<Context>, StoreError> {
    const SQL: [[&str; 2]; 2] = load_sql!(
        "context::lock_free_and_load",
        "e.version_read, ",
        "(VALUES ($1::text, $2::text, $3::text, $4::uuid, $5::bool))
             AS q (event_id, request_id, user_id, reservation_id, ended_too)
         CROSS JOIN LATERAL ( -- locked as it is now; everything else is as it was when the statement began
             SELECT l.*, (SELECT s.version FROM events s WHERE s.event_id = q.event_id) AS version_read
               FROM events l WHERE l.event_id = q.event_id FOR UPDATE SKIP LOCKED) e"
    );
    let (user_id, reservation_id) = whose(command);
    let (sql, has_records) = statement(&SQL, &[command]);
    let row = sqlx::query(sql)
        .bind(&command.event_id)
        .bind(command.request.as_ref().map(|request| &request.id))
        .bind(&user_id)
        .bind(reservation_id)
        .bind(user_id.is_some() && !is_reserve(command))
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut columns = Columns::of(&row);
    let version_read: i64 = columns.get()?;
    let mut found = Found::default();
    found.add(columns, has_records)?;
    let context = found.into_context()?;
    // The lock is that of the row as it is now. The rest was read as it was when the statement began: if
    // somebody has changed the event in between, that is too old.
    let is_one_moment = context.snapshots.values().all(|snapshot| snapshot.event.counters.version == version_read);
    if is_one_moment {
        return Ok(Some(context));
    }
    Ok(Some(read(conn, &[command]).await?))
}

/// Waits for the event's lock, or fails where it is not to wait, and loads.
async fn wait_and_load(
    tx: &mut Tx,
    command: &Command,
    wait: LockWait,
) -> Result<Option<(Context, Duration)>, StoreError> {
    // As a subquery each row becomes its columns, in the order of the lists.
    const SQL: &str = concat!(
        "-- context::wait_and_load\nSELECT f.lock_wait, f.is_repeated, f.now, ",
        event_columns!(),
        ", ",
        reservation_columns!(),
        " FROM lock_and_load_1($1, $2, $3, $4, $5, $6, $7, $8) AS f,
              LATERAL (SELECT (f.event).*) AS e,
              LATERAL (SELECT (f.reservation).*) AS r"
    );
    let (user_id, reservation_id) = whose(command);
    let Limits { statement, lock } = tx.limits();
    let conn = &mut **tx;
    let row = sqlx::query(SQL)
        .bind(statement.to_string())
        .bind(lock.to_string())
        .bind(&command.event_id)
        .bind(wait == LockWait::Wait)
        .bind(command.request.as_ref().map(|request| &request.id))
        .bind(&user_id)
        .bind(reservation_id)
        .bind(user_id.is_some() && !is_reserve(command))
        .fetch_one(&mut *conn)
        .await?;
    let mut columns = Columns::of(&row);
    let lock_wait = columns.micros()?;
    let is_repeated: Option<bool> = columns.get()?;
    let now = columns.get()?;
    let Some(event) = columns.optional_event()? else { return Ok(None) };
    if is_repeated == Some(true) {
        // Seldom: what it was answered with is the one thing that the function leaves out.
        return Ok(Some((read(conn, &[command]).await?, lock_wait)));
    }
    let mut snapshot = Snapshot::new(event);
    columns.optional_reservation()?.into_iter().for_each(|found| snapshot.add_reservation(found));
    let snapshots = BTreeMap::from([(command.event_id.clone(), snapshot)]);
    Ok(Some((Context { now, snapshots }, lock_wait)))
}

/// Loads the same, but no holds that could make room.
pub async fn load_without_holds(conn: &mut PgConnection, commands: &[&Command]) -> Result<Context, StoreError> {
    let mut context = read(conn, commands).await?;
    load_entries(conn, &mut context, commands).await?;
    Ok(context)
}

/// Reads the events of `commands`, the reservations they mean and the records of their requests.
async fn read(conn: &mut PgConnection, commands: &[&Command]) -> Result<Context, StoreError> {
    // Only the first command of an event asks for the event's columns.
    const SQL: [[&str; 2]; 2] = load_sql!(
        "context::read",
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
    let (user_ids, reservation_ids): (Vec<_>, Vec<_>) = commands.iter().map(|command| whose(command)).unzip();
    let ended_too: Vec<_> =
        commands.iter().zip(&user_ids).map(|(command, user)| user.is_some() && !is_reserve(command)).collect();

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
        self.events.extend(columns.optional_event()?);
        self.reservations.extend(columns.optional_reservation()?);
        if has_records {
            self.records.extend(columns.optional_change()?);
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

/// Adds the waitlist entries that decisions need to see, where any do. An event that has changed since
/// its version was read can't be written any more; and a no that rests on an entry is right as of now.
async fn load_entries(conn: &mut PgConnection, context: &mut Context, commands: &[&Command]) -> Result<(), StoreError> {
    let (mut targets, mut found) = (Vec::new(), Vec::new());
    for command in commands {
        let Some(snapshot) = context.snapshots.get(&command.event_id) else { continue };
        targets.extend(command.entry_target(&snapshot.event).map(|target| (&command.event_id, target)));
        if let Some(capacity) = command.shrinks_to(&snapshot.event) {
            found.extend(waitlist::larger_than(conn, &command.event_id, capacity).await?);
        }
    }
    if !targets.is_empty() {
        found.extend(waitlist::of_targets(conn, &targets).await?);
    }
    for entry in found {
        if let Some(snapshot) = context.snapshots.get_mut(&entry.event_id) {
            snapshot.line.add(entry);
        }
    }
    Ok(())
}

/// Adds the holds that lapse first, or have lapsed, of the events that are short of so many units.
/// False: an event is not as it was when `context` was loaded.
async fn load_holds(
    conn: &mut PgConnection,
    context: &mut Context,
    short: &[(EventId, u32)],
) -> Result<bool, StoreError> {
    const SQL: &str = concat!(
        "-- context::load_holds\nSELECT e.event_id, e.version, ",
        reservation_columns!(),
        " FROM unnest($1::text[], $2::bigint[]) AS q (event_id, most)
          JOIN events e ON e.event_id = q.event_id
          LEFT JOIN LATERAL (
              SELECT * FROM reservations h WHERE h.event_id = q.event_id AND h.state = 'HELD'
               ORDER BY h.expire_time LIMIT q.most) r ON true
          ORDER BY r.expire_time"
    );
    // A hold has at least one unit; one more hold tells when the next units may come free.
    let (event_ids, limits): (Vec<_>, Vec<_>) = short.iter().map(|(id, units)| (id, i64::from(*units) + 1)).unzip();
    let rows = sqlx::query(SQL).bind(event_ids).bind(limits).fetch_all(conn).await?;
    for row in &rows {
        let mut columns = Columns::of(row);
        let event_id: EventId = columns.get()?;
        let version: i64 = columns.get()?;
        let hold = columns.optional_reservation()?;
        let Some(snapshot) = context.snapshots.get_mut(&event_id) else { continue };
        if snapshot.event.counters.version != version {
            return Ok(false);
        }
        hold.into_iter().for_each(|hold| snapshot.add_hold(hold, context.now));
    }
    Ok(true)
}
