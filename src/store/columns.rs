//! Rows to domain values, column after column in the order of the column lists beside them.

use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow, types::Json};
use std::time::Duration;

use crate::domain::{
    change::{Change, EventRecord, Subject},
    event::{Counters, Definition, Event, Limits},
    ids::{EventId, Request},
    limits::Labels,
    reservation::Reservation,
    waitlist::{Entry, Policy},
};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Reads a row from left to right.
pub struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

/// The columns that [`Columns::event`] reads, of a table or alias `e`.
#[macro_export]
#[doc(hidden)]
macro_rules! event_columns {
    () => {
        "e.event_id, e.display_name, e.series, e.venue, e.start_time, e.end_time, e.booking_open_time, \
         e.booking_close_time, e.labels, e.max_quantity, e.hold_ttl_default, e.hold_ttl_max, e.max_extensions, \
         e.capacity, e.waitlist_policy, e.state, e.cancel_reason, e.held, e.confirmed, e.version, e.waiting, e.create_time, e.update_time"
    };
}

/// The columns that [`Columns::reservation`] reads, of a table or alias `r`.
#[macro_export]
#[doc(hidden)]
macro_rules! reservation_columns {
    () => {
        "r.event_id, r.reservation_id, r.user_id, r.quantity, r.state, r.expire_time, r.confirm_time, \
         r.extensions, r.cancel_reason, r.labels, r.version, r.create_time, r.update_time"
    };
}

/// The columns that [`Columns::entry`] reads, of a table or alias `w`.
#[macro_export]
#[doc(hidden)]
macro_rules! entry_columns {
    () => {
        "w.event_id, w.entry_id, w.user_id, w.quantity, w.min_quantity, w.state, w.ticket, w.skips, w.labels, \
         w.version, w.create_time, w.update_time"
    };
}

/// Whether somebody waits for an event of a table or alias `e` whom its free units fit, and whose turn
/// it is: what `domain::decide::promote` sees to, said once more in SQL, for audits.
macro_rules! is_unserved {
    () => {
        "-- is_unserved
         (e.state = 'OPEN' AND e.held + e.confirmed < e.capacity
          AND (e.booking_open_time IS NULL OR e.booking_open_time <= now())
          AND (e.booking_close_time IS NULL OR e.booking_close_time > now())
          AND EXISTS (
              SELECT FROM (
                  SELECT w.min_quantity, w.skips FROM waitlist w
                   WHERE w.event_id = e.event_id AND w.state = 'WAITING' ORDER BY w.ticket LIMIT 1) first
               WHERE first.min_quantity <= e.capacity - e.held - e.confirmed
                  OR first.skips < COALESCE((e.waitlist_policy ->> 'max_skips')::integer, 0)
                     AND EXISTS (
                         SELECT FROM waitlist w WHERE w.event_id = e.event_id AND w.state = 'WAITING'
                            AND w.min_quantity <= e.capacity - e.held - e.confirmed)))"
    };
}

pub(super) use is_unserved;

/// The columns that [`Columns::change`] reads, of a table or alias `c`.
#[macro_export]
#[doc(hidden)]
macro_rules! change_columns {
    () => {
        "c.event_id, c.version, c.kind, c.change_time, c.request_id, c.fingerprint, c.actor, c.event, c.entry, \
         c.reservation_id, \
         c.user_id, c.quantity, c.state, c.expire_time, c.confirm_time, c.extensions, c.cancel_reason, c.labels, \
         c.create_time"
    };
}

/// How many columns `event_columns!` has.
const EVENT_COLUMNS: usize = 23;
/// How many columns `change_columns!` has.
const CHANGE_COLUMNS: usize = 18;
/// How many columns `reservation_columns!` has.
const RESERVATION_COLUMNS: usize = 13;

impl<'r> Columns<'r> {
    pub fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// Leaves `columns` out.
    pub fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    /// The next column.
    pub fn get<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column)
    }

    /// A column that is a count, and an `integer` in the database.
    pub fn count(&mut self) -> Result<u32> {
        let column = self.next;
        let value: i32 = self.get()?;
        u32::try_from(value)
            .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_string(), source: error.into() })
    }

    /// A column that is a number of microseconds, and a `bigint` in the database.
    pub fn micros(&mut self) -> Result<Duration> {
        let column = self.next;
        let value: i64 = self.get()?;
        u64::try_from(value)
            .map(Duration::from_micros)
            .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_string(), source: error.into() })
    }

    fn labels(&mut self) -> Result<Labels> {
        Ok(self.get::<Option<Json<Labels>>>()?.map(|json| json.0).unwrap_or_default())
    }

    pub fn event(&mut self) -> Result<Event> {
        Ok(Event {
            id: self.get()?,
            definition: Definition {
                display_name: self.get()?,
                series: self.get()?,
                venue: self.get()?,
                start_time: self.get()?,
                end_time: self.get()?,
                booking_open_time: self.get()?,
                booking_close_time: self.get()?,
                labels: self.labels()?,
                limits: Limits {
                    max_quantity: self.count()?,
                    hold_ttl_default: self.micros()?,
                    hold_ttl_max: self.micros()?,
                    max_extensions: self.count()?,
                },
                capacity: self.count()?,
                waitlist: self.get::<Option<Json<Policy>>>()?.map(|json| json.0).unwrap_or_default(),
            },
            state: self.get()?,
            cancel_reason: self.get()?,
            counters: Counters {
                held: self.count()?,
                confirmed: self.count()?,
                version: self.get()?,
                waiting: self.count()?,
            },
            create_time: self.get()?,
            update_time: self.get()?,
        })
    }

    /// An event, where an outer join found one.
    pub fn optional_event(&mut self) -> Result<Option<Event>> {
        self.optional(EVENT_COLUMNS, Self::event)
    }

    pub fn reservation(&mut self) -> Result<Reservation> {
        Ok(Reservation {
            event_id: self.get()?,
            id: self.get()?,
            user_id: self.get()?,
            quantity: self.count()?,
            state: self.get()?,
            expire_time: self.get()?,
            confirm_time: self.get()?,
            extensions: self.count()?,
            cancel_reason: self.get()?,
            labels: self.labels()?,
            version: self.get()?,
            create_time: self.get()?,
            update_time: self.get()?,
        })
    }

    pub fn entry(&mut self) -> Result<Entry> {
        Ok(Entry {
            event_id: self.get()?,
            id: self.get()?,
            user_id: self.get()?,
            quantity: self.count()?,
            min_quantity: self.count()?,
            state: self.get()?,
            ticket: self.get()?,
            skips: self.count()?,
            labels: self.labels()?,
            version: self.get()?,
            create_time: self.get()?,
            update_time: self.get()?,
        })
    }

    /// A reservation, where an outer join found one.
    pub fn optional_reservation(&mut self) -> Result<Option<Reservation>> {
        self.optional(RESERVATION_COLUMNS, Self::reservation)
    }

    pub fn change(&mut self) -> Result<Change> {
        let event_id: EventId = self.get()?;
        let version = self.get()?;
        let kind = self.get()?;
        let time = self.get()?;
        let (request_id, fingerprint) = (self.get()?, self.get()?);
        let request = Option::zip(request_id, fingerprint).map(|(id, fingerprint)| Request { id, fingerprint });
        let actor = self.get()?;
        let record: Option<Json<EventRecord>> = self.get()?;
        let entry: Option<Json<Entry>> = self.get()?;
        let subject = if let Some(Json(record)) = record {
            Subject::Event(Box::new(record))
        } else if let Some(Json(entry)) = entry {
            Subject::Entry(Box::new(entry))
        } else {
            Subject::Reservation(Box::new(Reservation {
                event_id,
                id: self.get()?,
                user_id: self.get()?,
                quantity: self.count()?,
                state: self.get()?,
                expire_time: self.get()?,
                confirm_time: self.get()?,
                extensions: self.count()?,
                cancel_reason: self.get()?,
                labels: self.labels()?,
                version,
                create_time: self.get()?,
                update_time: time,
            }))
        };
        Ok(Change { version, kind, time, request, actor, subject })
    }

    /// A change, where an outer join found one.
    pub fn optional_change(&mut self) -> Result<Option<Change>> {
        self.optional(CHANGE_COLUMNS, Self::change)
    }

    /// `width` columns read by `read`, or skipped where the first, the event's id, is null.
    fn optional<T>(&mut self, width: usize, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        let start = self.next;
        let found = self.get::<Option<&str>>()?.is_some();
        self.next = start;
        let value = if found { Some(read(self)?) } else { None };
        self.next = start + width;
        Ok(value)
    }
}
