//! The header line of a file, and with it the separator.

use csv::ByteRecord;

use super::{
    cells::shown,
    columns::{self, Column, REQUIRED},
    encoding::{NOT_UTF8, SEPARATORS, separator_name},
};

/// The columns of a file in their order. A column without a name must be empty.
#[derive(Default)]
pub struct Header(Vec<Option<Column>>);

impl Header {
    /// The columns that the header line names.
    pub fn of(record: &ByteRecord, separator: u8) -> Result<Self, String> {
        if let Some(name) = record.iter().find(|name| std::str::from_utf8(name).is_err()) {
            return Err(format!("{} {NOT_UTF8}", shown(&String::from_utf8_lossy(name))));
        }
        let names: Vec<_> = record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let columns: Vec<_> = names.iter().map(|name| Column::of(name)).collect();
        let known: Vec<_> = columns.iter().flatten().map(Column::name).collect();

        let missing: Vec<_> = REQUIRED.into_iter().filter(|name| !known.iter().any(|known| known == name)).collect();
        if !missing.is_empty() {
            let given: Vec<_> = names.iter().filter(|name| !name.is_empty()).map(|name| shown(name)).collect();
            return Err(format!(
                "the header line has no column {}; separated by {}, it reads {}; name the columns, as in \
                 event_id,capacity,display_name",
                missing.join(" and no column "),
                separator_name(separator),
                shorten(&given)
            ));
        }
        let is_unknown = |(name, column): &(&String, &Option<Column>)| !name.is_empty() && column.is_none();
        let unknown: Vec<_> = names.iter().zip(&columns).filter(is_unknown).map(|(name, _)| shown(name)).collect();
        if !unknown.is_empty() {
            let noun = if unknown.len() == 1 { "column" } else { "columns" };
            return Err(format!("unknown {noun} {}; the columns are {}", shorten(&unknown), columns::known()));
        }
        match known.iter().enumerate().find(|(place, name)| known[..*place].contains(name)) {
            Some((_, name)) => Err(format!("the header line has the column {name} twice")),
            None => Ok(Self(columns)),
        }
    }

    /// The named columns.
    pub fn columns(&self) -> Vec<Column> {
        self.0.iter().flatten().cloned().collect()
    }

    /// The number of cells.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The column of a cell, if it has a name.
    pub fn column(&self, cell: usize) -> Option<&Column> {
        self.0.get(cell)?.as_ref()
    }

    /// How messages name the column of a cell.
    pub fn name(&self, cell: usize) -> String {
        self.column(cell).map_or_else(|| (cell + 1).to_string(), Column::name)
    }

    /// The cell of the column with this name.
    pub fn cell_of<'a>(&self, record: &'a ByteRecord, name: &str) -> Option<&'a [u8]> {
        let cell = self.0.iter().position(|column| column.as_ref().is_some_and(|column| column.name() == name))?;
        record.get(cell)
    }
}

/// The separator with which most columns are known, or else with which there are most columns.
pub fn likely_separator(first_record: impl Fn(u8) -> ByteRecord) -> u8 {
    let score = |separator: u8| {
        let record = first_record(separator);
        let known = record.iter().filter(|name| Column::of(&String::from_utf8_lossy(name)).is_some()).count();
        (known, record.len())
    };
    // Of equals, the last one is the result: the comma.
    SEPARATORS.iter().rev().map(|(separator, _)| *separator).max_by_key(|separator| score(*separator)).unwrap_or(b',')
}

/// A list for a message, without its end if it is long.
fn shorten(list: &[String]) -> String {
    const MOST: usize = 8;
    let end = if list.len() > MOST { format!(", and {} more", list.len() - MOST) } else { String::new() };
    format!("{}{end}", list.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", "))
}
