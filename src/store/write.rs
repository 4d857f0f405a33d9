//! Writes what was decided, in one round trip, whatever the number of commands.
//!
//! One function does it all, `write_events` (migrations/0002_functions.sql), in a transaction or as a statement that is
//! a transaction of its own. Two plain statements beside it serve what is most common, since they cost PostgreSQL less:
//! new reservations of one event, and one change of one reservation.

use std::collections::{HashMap, hash_map::Entry as Place};

use sqlx::{PgConnection, Postgres, Row as _, postgres::PgArguments, query::Query};
use tokio::time::Instant;

use super::{
    StoreError,
    tables::{Row, reservation_assignments, rows},
};
use crate::domain::{
    caller::Actor,
    change::{Change, Subject},
    commit::{Commit, EndAll},
    event::{Counters, Event},
    ids::{EventId, RequestId, ReservationId, UserId},
    reservation::Reservation,
    time::Timestamp,
    waitlist::Entry,
};

/// What was decided for one event, by one command or by several in a row.
#[derive(Clone)]
pub struct EventWrite<'a> {
    /// The event.
    pub event_id: &'a EventId,
    /// Its counters and version when it was read.
    pub seen: Counters,
    /// The commits in the order in which they were decided.
    pub commits: Vec<&'a Commit>,
    /// What speculative Reserves among them assume.
    pub assumptions: Vec<Assumption<'a>>,
}

/// What a new reservation rests on that was not read: that its user has no other live one at the event, and that its
/// request_id is new.
#[derive(Clone, Copy)]
pub struct Assumption<'a> {
    /// The user.
    pub user_id: &'a UserId,
    /// The request_id, if there is one.
    pub request_id: Option<&'a RequestId>,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteMode {
    /// All events, or none.
    pub is_whole: bool,
    /// For how many milliseconds to wait for a row that another transaction has locked. None: it is passed over.
    pub lock_timeout: Option<u128>,
    /// Whether it has to be told why an event was passed over.
    pub is_explained: bool,
}

/// Why an event was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// Another transaction has its row locked.
    Locked,
    /// It has changed since it was read.
    Changed,
    /// A moment on which a decision rests has come.
    Late,
    /// Something exists that speculation assumed not to exist.
    Mispredicted,
    /// One of these.
    Unexplained,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The events that were passed over.
    pub passed_over: HashMap<EventId, NotWritten>,
    /// PostgreSQL's time, and when it was asked: it is at most so old. None: nothing was written.
    pub time: Option<(Timestamp, Instant)>,
}

/// Declares that a struct travels as the composite type of this name, alone and in arrays.
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

#[derive(sqlx::Encode)]
struct EventWriteRow<'a> {
    event_id: &'a EventId,
    seen_version: i64,
    valid_until: Option<Timestamp>,
    version: i64,
    held: i32,
    confirmed: i32,
    waiting: i32,
}
composite!(EventWriteRow, "event_write");

#[derive(sqlx::Encode)]
struct EndAllRow<'a> {
    event_id: &'a EventId,
    version: i64,
    end_time: Timestamp,
    reason: Option<&'a String>,
    actor: Option<&'a Actor>,
    reservations: i32,
    entries: i32,
}
composite!(EndAllRow, "end_all");

type Statement = Query<'static, Postgres, PgArguments>;

/// Writes what was decided. Outside a transaction this is one of its own: where the connection breaks meanwhile, it
/// is unknown whether anything was written.
pub async fn write(conn: &mut PgConnection, writes: &[EventWrite<'_>], mode: WriteMode) -> Result<Written, StoreError> {
    let asked = Instant::now();
    let time = |row: &sqlx::postgres::PgRow| Ok::<_, sqlx::Error>(Some((row.try_get(0)?, asked)));
    if let Some(statement) = plain_statement(writes).filter(|_| !mode.is_explained) {
        let row = outcome(statement.fetch_optional(conn).await)?;
        return Ok(match row {
            Some(row) => Written { time: time(&row)?, ..Written::default() },
            None => Written { passed_over: all(writes, NotWritten::Unexplained), time: None },
        });
    }
    let row = outcome(write_events(writes, mode).fetch_one(conn).await)?;
    let outcomes: Option<Vec<String>> = row.try_get(1)?;
    let Some(outcomes) = outcomes else {
        return Ok(Written { time: time(&row)?, ..Written::default() });
    };
    let told = writes.iter().zip(&outcomes).filter_map(|(write, outcome)| {
        let why = match outcome.as_str() {
            "WRITTEN" => return None,
            "LOCKED" => NotWritten::Locked,
            "CHANGED" => NotWritten::Changed,
            "LATE" => NotWritten::Late,
            "MISPREDICTED" => NotWritten::Mispredicted,
            _ => NotWritten::Unexplained,
        };
        Some((write.event_id.clone(), why))
    });
    let passed_over: HashMap<_, _> = told.collect();
    let is_nothing_written = mode.is_whole || passed_over.len() == writes.len();
    Ok(Written { time: if is_nothing_written { None } else { time(&row)? }, passed_over })
}

fn all(writes: &[EventWrite<'_>], why: NotWritten) -> HashMap<EventId, NotWritten> {
    writes.iter().map(|write| (write.event_id.clone(), why)).collect()
}

/// How a statement ended that may be a transaction of its own: unless PostgreSQL says that it failed, it may have been
/// committed.
fn outcome<T>(result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    result.map_err(|error| match error {
        error @ sqlx::Error::Database(_) => error.into(),
        error => StoreError::OutcomeUnknown(error),
    })
}

fn write_events(writes: &[EventWrite<'_>], mode: WriteMode) -> Statement {
    const SQL: &str = "-- write::write_events
        SELECT clock_timestamp(), write_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let Rows { events, definitions, known, new, known_entries, new_entries, changes, ends } = Rows::of(writes);
    let assumed = || writes.iter().flat_map(|write| write.assumptions.iter().map(move |one| (write.event_id, one)));
    sqlx::query(SQL)
        .bind(events)
        .bind(rows(&definitions))
        .bind(rows(known))
        .bind(rows(new))
        .bind(rows(known_entries))
        .bind(rows(new_entries))
        .bind(rows(changes))
        .bind(ends)
        .bind(assumed().map(|(event_id, _)| event_id).collect::<Vec<_>>())
        .bind(assumed().map(|(_, one)| one.user_id).collect::<Vec<_>>())
        .bind(assumed().map(|(_, one)| one.request_id).collect::<Vec<_>>())
        .bind(mode.is_whole)
        .bind(mode.lock_timeout.map(|limit| limit.to_string()))
}

/// The statement of plain values that does the same for one event, if there is one: it returns a row if it has written.
fn plain_statement(writes: &[EventWrite<'_>]) -> Option<Statement> {
    let [write] = writes else { return None };
    let is_plain = |commit: &&Commit| -> bool {
        let has_reservations_only = commit.changes.iter().all(|change| change.reservation().is_some());
        has_reservations_only && commit.entries.is_empty() && commit.counters.waiting == write.seen.waiting
    };
    if !write.commits.iter().all(is_plain) {
        return None;
    }
    if let [Commit { changes, creates, .. }] = write.commits[..]
        && let [change] = &changes[..]
        && let Some(reservation) = change.reservation()
    {
        return Some(one_change(write, change, reservation, *creates == Some(reservation.id)));
    }
    let is_new = |commit: &&Commit| commit.changes.len() == 1 && commit.creates.is_some();
    write.commits.iter().all(is_new).then(|| new_reservations(write))
}

/// The conditions under which an event is written, and its counters: `free` and `counted`. Assumptions are still true
/// under the lock where the version is the one that was seen. LIMIT keeps a plan that is made on empty tables from
/// beginning with all rows of the event.
macro_rules! counted_sql {
    () => {
        "WITH free AS ( -- of what is in the way
             SELECT 1 FROM events
              WHERE event_id = $1 AND version = $2 AND (clock_timestamp() >= $3) IS NOT TRUE
                AND NOT EXISTS (SELECT FROM unnest($7::text[]) AS q (user_id), LATERAL (
                                    SELECT FROM reservations r
                                     WHERE r.user_id = q.user_id AND r.event_id = $1 AND r.live LIMIT 1) AS found)
                AND NOT EXISTS (SELECT FROM unnest($8::text[]) AS q (request_id), LATERAL (
                                    SELECT FROM changes c
                                     WHERE c.event_id = $1 AND c.request_id = q.request_id LIMIT 1) AS found)
                FOR UPDATE SKIP LOCKED),
         counted AS (
             UPDATE events SET version = $4, held = $5, confirmed = $6 FROM free WHERE event_id = $1
             RETURNING version), "
    };
}

/// One change of one reservation.
fn one_change(write: &EventWrite<'_>, change: &Change, reservation: &Reservation, is_new: bool) -> Statement {
    const NEW: &str = concat!(
        "-- write::one_change (new)\n",
        counted_sql!(),
        "reserved AS (INSERT INTO reservations SELECT ($9::reservation_row).* FROM counted)
         INSERT INTO changes SELECT ($10::change_row).* FROM counted RETURNING clock_timestamp()"
    );
    const KNOWN: &str = concat!(
        "-- write::one_change\n",
        counted_sql!(),
        "reserved AS (
             UPDATE reservations AS r SET ",
        reservation_assignments!(),
        "  FROM counted, (SELECT ($9::reservation_row).*) AS w
              WHERE r.event_id = $1 AND r.reservation_id = w.reservation_id)
         INSERT INTO changes SELECT ($10::change_row).* FROM counted RETURNING clock_timestamp()"
    );
    counted(if is_new { NEW } else { KNOWN }, write).bind(Row(reservation)).bind(Row(change))
}

/// New reservations of one event: the batch of a crowd.
fn new_reservations(write: &EventWrite<'_>) -> Statement {
    const SQL: &str = concat!(
        "-- write::new_reservations\n",
        counted_sql!(),
        "reserved AS (INSERT INTO reservations SELECT w.* FROM counted, unnest($9::reservation_row[]) AS w),
         changed AS (INSERT INTO changes SELECT w.* FROM counted, unnest($10::change_row[]) AS w)
         SELECT clock_timestamp() FROM counted"
    );
    let changes = || write.commits.iter().flat_map(|commit| &commit.changes);
    counted(SQL, write).bind(rows(changes().filter_map(Change::reservation))).bind(rows(changes()))
}

fn counted(sql: &'static str, write: &EventWrite<'_>) -> Statement {
    let Counters { version, held, confirmed, .. } = write.counters();
    sqlx::query(sql)
        .bind(write.event_id)
        .bind(write.seen.version)
        .bind(write.valid_until())
        .bind(version)
        .bind(held.cast_signed())
        .bind(confirmed.cast_signed())
        .bind(write.assumptions.iter().map(|one| one.user_id).collect::<Vec<_>>())
        .bind(write.assumptions.iter().filter_map(|one| one.request_id).collect::<Vec<_>>())
}

impl EventWrite<'_> {
    /// The event's counters after it.
    pub fn counters(&self) -> Counters {
        self.commits.last().map_or(self.seen, |commit| commit.counters)
    }

    /// When what was decided is no longer right.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.commits.iter().filter_map(|commit| commit.valid_until).min()
    }
}

/// The rows to write: each once, as the last commit leaves it.
#[derive(Default)]
struct Rows<'a> {
    events: Vec<EventWriteRow<'a>>,
    definitions: Vec<Event>,
    known: Vec<&'a Reservation>,
    new: Vec<&'a Reservation>,
    known_entries: Vec<&'a Entry>,
    new_entries: Vec<&'a Entry>,
    changes: Vec<&'a Change>,
    ends: Vec<EndAllRow<'a>>,
}

impl<'a> Rows<'a> {
    fn of(writes: &[EventWrite<'a>]) -> Self {
        let mut all = Self::default();
        for write in writes {
            all.add(write);
        }
        all
    }

    fn add(&mut self, write: &EventWrite<'a>) {
        let counters = write.counters();
        self.events.push(EventWriteRow {
            event_id: write.event_id,
            seen_version: write.seen.version,
            valid_until: write.valid_until(),
            version: counters.version,
            held: counters.held.cast_signed(),
            confirmed: counters.confirmed.cast_signed(),
            waiting: counters.waiting.cast_signed(),
        });
        let mut reservations = Latest::new(&mut self.known, &mut self.new);
        let mut entries = Latest::new(&mut self.known_entries, &mut self.new_entries);
        let mut definition = None;
        for commit in &write.commits {
            self.ends.extend(commit.ends_all.as_ref().map(|ends| end_all_row(write.event_id, ends)));
            for change in &commit.changes {
                match &change.subject {
                    Subject::Reservation(it) => reservations.put(it.id, it, commit.creates == Some(it.id)),
                    Subject::Event(record) => definition = Some(&record.event),
                    Subject::Entry(_) => {}
                }
                self.changes.push(change);
            }
            for entry in &commit.entries {
                entries.put(entry.id, entry, entry.ticket > write.seen.version);
            }
        }
        self.definitions.extend(definition.map(|event| Event { counters, ..event.clone() }));
    }
}

/// Rows of which only the latest version is written.
struct Latest<'r, 'a, T> {
    known: &'r mut Vec<&'a T>,
    new: &'r mut Vec<&'a T>,
    places: HashMap<ReservationId, (bool, usize)>,
}

impl<'r, 'a, T> Latest<'r, 'a, T> {
    fn new(known: &'r mut Vec<&'a T>, new: &'r mut Vec<&'a T>) -> Self {
        Self { known, new, places: HashMap::new() }
    }

    fn put(&mut self, id: ReservationId, row: &'a T, is_new: bool) {
        match self.places.entry(id) {
            Place::Occupied(place) => {
                let (is_new, place) = *place.get();
                let rows = if is_new { &mut *self.new } else { &mut *self.known };
                rows[place] = row;
            }
            Place::Vacant(place) => {
                let rows = if is_new { &mut *self.new } else { &mut *self.known };
                place.insert((is_new, rows.len()));
                rows.push(row);
            }
        }
    }
}

fn end_all_row<'a>(event_id: &'a EventId, ends: &'a EndAll) -> EndAllRow<'a> {
    EndAllRow {
        event_id,
        version: ends.version,
        end_time: ends.time,
        reason: ends.reason.as_ref(),
        actor: ends.actor.as_ref(),
        reservations: ends.totals.reservations.cast_signed(),
        entries: ends.totals.entries.cast_signed(),
    }
}
