//! Pages of listings: as many rows as were asked for, or fewer if the rows are long. A row may have some 40 KB of
//! labels, and a thousand such rows would exceed what most clients accept.

use futures::{TryStreamExt, stream::BoxStream};
use sqlx::{Row, postgres::PgRow};

use super::StoreError;

/// A page ends with the row that brings it to this many bytes.
pub const FULL_BYTES: usize = 1024 * 1024;

/// Some rows of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether more rows follow.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// The row after which the next page begins, if there is one.
    pub fn last_before_more(&self) -> Option<&T> {
        self.rows.last().filter(|_| self.has_more)
    }
}

/// Reads a page of at most `size` rows from a statement that asks for one more.
pub(super) async fn read<T>(
    mut found: BoxStream<'_, Result<PgRow, sqlx::Error>>,
    size: u32,
    value_of: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Page<T>, StoreError> {
    let (mut page, mut bytes) = (Page { rows: Vec::new(), has_more: false }, 0);
    // Read to the end, so that the connection is free for the next statement.
    while let Some(row) = found.try_next().await? {
        page.has_more |= page.rows.len() >= size as usize || bytes >= FULL_BYTES;
        if !page.has_more {
            bytes += bytes_of(&row);
            page.rows.push(value_of(&row)?);
        }
    }
    Ok(page)
}

fn bytes_of(row: &PgRow) -> usize {
    let length = |column| row.try_get_raw(column).ok().and_then(|value| value.as_bytes().ok().map(<[u8]>::len));
    (0..row.len()).filter_map(length).sum()
}
