//! The lines of a file: each is an event, or what is wrong with it.

use std::collections::HashMap;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{
    cells::shown,
    columns::{self, Column},
    encoding::{NOT_UTF8, SEPARATORS, declared_separator, line_ends},
    header::{Header, likely_separator},
    quoting::{self, Fault, Misquote},
};
use crate::rpc::pb::Event;

/// A line with content.
#[derive(Debug)]
pub struct Row {
    /// Its number, as an editor counts.
    pub line: u64,
    /// Its event, with all defaults.
    pub event: Result<Event, Problem>,
}

/// Why a line is no event.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Messages that begin with the line and, where it is known, the column.
    pub messages: Vec<String>,
    /// How many lines could not be read, from this one on. Zero: it was read, and is wrong.
    pub unread: u64,
}

/// The lines of a file, in order. Lines without content are left out.
pub struct Rows<'a> {
    text: &'a [u8],
    separator: u8,
    reader: Reader<&'a [u8]>,
    /// Where the reader began.
    base: usize,
    lines: LineNumbers<'a>,
    header: Header,
    /// The line of each event.
    events: HashMap<String, u64>,
}

impl<'a> Rows<'a> {
    /// Reads the header line of a decoded file. An error is about the whole file.
    pub fn of(text: &'a [u8]) -> Result<Self, String> {
        let declared = declared_separator(text);
        let base = declared.map_or(0, |(_, length)| length);
        let first_record = |separator| {
            let mut record = ByteRecord::new();
            let mut reader = reader(&text[base..], separator);
            // A slice has no read errors. Rows without content may precede the header line.
            while reader.read_byte_record(&mut record).unwrap_or(false) && is_blank(&record) {}
            record
        };
        let separator = declared.map_or_else(|| likely_separator(first_record), |(separator, _)| separator);
        let reader = reader(&text[base..], separator);
        let lines = LineNumbers { text, byte: 0, number: 1 };
        let header = Header::default();
        let mut rows = Self { text, separator, reader, base, lines, header, events: HashMap::new() };
        let Some((line, record)) = rows.next_record() else {
            return Err("there is no line; the first one must name the columns, as in event_id,capacity".into());
        };
        let record = record.map_err(|problem| problem.messages.join("; "))?;
        rows.header = Header::of(&record, separator).map_err(|problem| format!("line {line}: {problem}"))?;
        Ok(rows)
    }

    /// The columns of the file.
    pub fn columns(&self) -> Vec<Column> {
        self.header.columns()
    }

    /// The next record with content, and the number of its line.
    fn next_record(&mut self) -> Option<(u64, Result<ByteRecord, Problem>)> {
        let mut record = ByteRecord::new();
        loop {
            let line = self.lines.at(self.offset());
            let start = self.lines.byte;
            if !self.reader.read_byte_record(&mut record).unwrap_or(false) {
                return None;
            }
            if let Err(misquote) = quoting::check(&self.text[start..], self.separator) {
                return Some((line, Err(self.skip(line, start, misquote))));
            }
            if !is_blank(&record) {
                return Some((line, Ok(record)));
            }
        }
    }

    fn offset(&self) -> usize {
        self.base + usize::try_from(self.reader.position().byte()).unwrap_or(usize::MAX)
    }

    /// Goes on behind a record whose quotes are wrong. What a quote encloses by mistake may be events or a part of a
    /// text, so it is not read.
    fn skip(&mut self, line: u64, start: usize, misquote: Misquote) -> Problem {
        let place = format!("line {line}, column {}", self.header.name(misquote.cell));
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let (next, unread, what) = match misquote.fault {
            Fault::BlankBefore => (None, 0, "a blank is before the quote; remove it".to_owned()),
            Fault::NeverClosed => {
                let unread = 1 + line_ends(self.text[start..].trim_ascii_end());
                (Some(self.text.len()), unread, "a quote is opened and never closed".to_owned())
            }
            Fault::TextAfter(quote) => {
                let (before, after) = self.text.split_at(start + quote);
                match line_ends(&before[start..]) {
                    0 => {
                        let end = after.iter().position(is_end).unwrap_or(after.len());
                        let what = "text follows the closing quote; write a quote inside a text twice".to_owned();
                        (Some(before.len() + end), 0, what)
                    }
                    passed => {
                        let next = before.iter().rposition(is_end).map_or(0, |end| end + 1);
                        let what = format!("a quote is opened and not closed before line {}", line + passed);
                        (Some(next), passed, what)
                    }
                }
            }
        };
        if let Some(next) = next {
            (self.base, self.reader) = (next, reader(&self.text[next..], self.separator));
        }
        let lines = match unread {
            0 => String::new(),
            1 => format!("; line {line} was not read"),
            _ => format!("; lines {line} to {} were not read", line + unread - 1),
        };
        let advice = if unread > 0 { "; add the closing quote" } else { "" };
        Problem { messages: vec![format!("{place}: {what}{lines}{advice}")], unread }
    }

    fn event(&mut self, line: u64, record: &ByteRecord) -> Result<Event, Vec<String>> {
        let event = self.parsed(record).map_err(|problems| {
            let place = |cell: Option<String>| cell.map_or_else(String::new, |name| format!(", column {name}"));
            problems
                .into_iter()
                .map(|(cell, problem)| format!("line {line}{}: {problem}", place(cell)))
                .collect::<Vec<_>>()
        })?;
        match self.events.insert(event.event_id.clone(), line) {
            None => Ok(event),
            Some(first) => {
                let id = shown(&event.event_id);
                self.events.insert(event.event_id, first);
                Err(vec![format!(
                    "line {line}, column event_id: {id} is on line {first} already; write one line for it"
                )])
            }
        }
    }

    /// The event of a record; or all that is wrong, with the column where it is about one.
    fn parsed(&self, record: &ByteRecord) -> Result<Event, Vec<(Option<String>, String)>> {
        let (cells, columns) = (record.len(), self.header.len());
        let is_extra = |(place, cell): (usize, &[u8])| place >= columns && !cell.trim_ascii().is_empty();
        if cells < columns || record.iter().enumerate().any(is_extra) {
            let advice = match cells < columns {
                true => "write a separator for each empty cell too",
                false => "put quotes around a text that has the separator in it",
            };
            return Err(vec![(None, format!("has {cells} cells where the header line has {columns}; {advice}"))]);
        }
        let (mut event, mut problems) = (Event::default(), Vec::new());
        for (place, cell) in record.iter().enumerate().take(columns) {
            if let Err(problem) = self.read_cell(&mut event, place, cell) {
                problems.push((Some(self.header.name(place)), problem));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        columns::as_stored(event).map_err(|violations| {
            let described = violations.into_iter().map(|(name, rule)| {
                let cell = self.header.cell_of(record, &name).map(|cell| shown(&String::from_utf8_lossy(cell)));
                (Some(name), format!("{}{rule}", cell.map_or_else(String::new, |cell| format!("{cell} "))))
            });
            described.collect()
        })
    }

    fn read_cell(&self, event: &mut Event, place: usize, cell: &[u8]) -> Result<(), String> {
        let Ok(text) = std::str::from_utf8(cell) else {
            let text = shown(&String::from_utf8_lossy(cell));
            return Err(format!("{text} {NOT_UTF8}"));
        };
        let problem = match self.header.column(place) {
            Some(column) => column.read(event, text).err(),
            None if text.trim().is_empty() => None,
            None => Some("is below no name; name the column in the header line".to_owned()),
        };
        let described = |problem| if text.is_empty() { problem } else { format!("{} {problem}", shown(text)) };
        problem.map_or(Ok(()), |problem| Err(described(problem)))
    }
}

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let (line, record) = self.next_record()?;
        let event =
            record.and_then(|record| self.event(line, &record).map_err(|messages| Problem { messages, unread: 0 }));
        Some(Row { line, event })
    }
}

fn reader(text: &[u8], separator: u8) -> Reader<&[u8]> {
    ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text)
}

/// Whether a record has no content: a spreadsheet writes the separators of empty rows.
fn is_blank(record: &ByteRecord) -> bool {
    let is_separator = |byte: &u8| SEPARATORS.iter().any(|(separator, _)| separator == byte);
    record.as_slice().iter().all(|byte| byte.is_ascii_whitespace() || is_separator(byte))
}

/// The numbers of the lines on which records begin, as an editor counts them. The CSV reader does not count empty
/// lines.
struct LineNumbers<'a> {
    text: &'a [u8],
    /// The position up to which lines are counted.
    byte: usize,
    number: u64,
}

impl LineNumbers<'_> {
    /// The line of the first record that begins at `byte` or later. `byte` must not decrease between calls.
    fn at(&mut self, byte: usize) -> u64 {
        let rest = self.text.get(byte..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let end = self.text.len().min(byte + blank);
        self.number += line_ends(&self.text[self.byte..end]);
        self.byte = end;
        self.number
    }
}

#[cfg(test)]
mod tests;
