//! Reads a row from left to right: some columns of its own, and those of [tables](super::tables).

use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow};

/// The result of reading a column.
pub type Result<T> = std::result::Result<T, sqlx::Error>;

/// A value that is a row of a table.
pub trait Table: Sized {
    /// How many columns it has.
    const WIDTH: usize;

    /// Reads the table's columns from where `columns` stands.
    fn read(columns: &mut Columns<'_>) -> Result<Self>;

    /// Reads a row that has the table's columns and no others.
    fn of(row: &PgRow) -> Result<Self> {
        Self::read(&mut Columns::of(row))
    }
}

/// A row, and the column that is read next.
pub struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    /// The row from its first column on.
    pub fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    pub fn get<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column)
    }

    /// The next columns, where an outer join found a row: its first column is then not null.
    pub fn optional<T: Table>(&mut self) -> Result<Option<T>> {
        let start = self.next;
        let is_found = self.get::<Option<&str>>()?.is_some();
        self.next = start;
        let value = if is_found { Some(T::read(self)?) } else { None };
        self.next = start + T::WIDTH;
        Ok(value)
    }
}

/// Whether free units of an event, of a table or alias `e`, fit a waiting entry whose turn it is: the rule of
/// `domain::decide::promote` in SQL, for audits and the promotion worker.
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
