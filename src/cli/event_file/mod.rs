//! CSV files of events: what `reservd event import` reads and `reservd event export` writes.
//!
//! [`decode`] and [`Rows`] read a file: its encoding, its separator, its header line, then one event a line, or what is
//! wrong with the line in words for its author. [`columns`] is the table of columns: import, comparison and export use
//! it alike.

mod cells;
mod closing;
pub mod columns;
mod encoding;
mod header;
mod quoting;
mod rows;

pub use self::{
    cells::time,
    closing::say_never,
    encoding::decode,
    rows::{Problem, Row, Rows},
};
