//! Reads events from a CSV file. Columns, by name: event_id and capacity; optionally display_name, series, venue,
//! start_time and end_time (RFC 3339).

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::rpc::pb::{CreateEventRequest, Event};

#[derive(Debug, Deserialize)]
struct Line {
    event_id: String,
    capacity: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    series: String,
    #[serde(default)]
    venue: String,
    #[serde(default)]
    start_time: String,
    #[serde(default)]
    end_time: String,
}

/// The lines of a file: the number of each, and its request or problem. An error is a problem of the whole file.
pub fn read(file: &[u8]) -> Result<impl Iterator<Item = (u64, Result<CreateEventRequest, String>)> + '_, String> {
    // Spreadsheets write a byte order mark.
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let headers = reader.headers().map_err(|error| format!("the header line {}", plain(&error)))?.clone();
    check_headers(&headers)?;
    let (mut lines, mut record) = (LineNumbers::of(file), csv::StringRecord::new());
    Ok(std::iter::from_fn(move || {
        let number = lines.at(reader.position().byte());
        let request = match reader.read_record(&mut record) {
            Ok(false) => return None,
            Ok(true) => request_of(&record, &headers),
            Err(error) => Err(plain(&error)),
        };
        Some((number, request))
    }))
}

/// The numbers of the lines on which records begin, as an editor counts them. The CSV reader does not count empty
/// lines.
struct LineNumbers<'a> {
    file: &'a [u8],
    /// The position up to which lines are counted.
    byte: usize,
    number: u64,
}

impl<'a> LineNumbers<'a> {
    const fn of(file: &'a [u8]) -> Self {
        Self { file, byte: 0, number: 1 }
    }

    /// The line of the first record that begins at `byte` or later. `byte` must not decrease between calls.
    fn at(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(this) = self.file.get(self.byte)
            && (self.byte < byte || matches!(this, b'\r' | b'\n'))
        {
            self.byte += 1;
            let is_half = *this == b'\r' && self.file.get(self.byte) == Some(&b'\n');
            self.number += u64::from(matches!(this, b'\r' | b'\n') && !is_half);
        }
        self.number
    }
}

fn check_headers(headers: &csv::StringRecord) -> Result<(), String> {
    const KNOWN: [&str; 7] = ["event_id", "display_name", "series", "venue", "start_time", "end_time", "capacity"];
    for needed in ["event_id", "capacity"] {
        if !headers.iter().any(|header| header == needed) {
            return Err(format!("the header line has no column {needed}"));
        }
    }
    for (place, header) in headers.iter().enumerate() {
        if !KNOWN.contains(&header) {
            return Err(format!("unknown column {header:?}; the columns are {}", KNOWN.join(", ")));
        }
        if headers.iter().take(place).any(|earlier| earlier == header) {
            return Err(format!("the header line has the column {header} twice"));
        }
    }
    Ok(())
}

fn request_of(record: &csv::StringRecord, headers: &csv::StringRecord) -> Result<CreateEventRequest, String> {
    if record.len() != headers.len() {
        return Err(format!("has {} fields, the header line {}", record.len(), headers.len()));
    }
    let line: Line = record.deserialize(Some(headers)).map_err(|error| plain(&error))?;
    if line.event_id.is_empty() {
        return Err("event_id is empty".into());
    }
    let capacity = line.capacity.trim();
    let event = Event {
        event_id: line.event_id,
        display_name: line.display_name,
        series: line.series,
        venue: line.venue,
        start_time: timestamp("start_time", &line.start_time)?,
        end_time: timestamp("end_time", &line.end_time)?,
        capacity: capacity.parse().map_err(|_| format!("capacity {capacity:?} is not a whole number"))?,
        ..Event::default()
    };
    Ok(CreateEventRequest { event: Some(event), request_id: "import".into(), start_closed: false })
}

fn timestamp(column: &str, text: &str) -> Result<Option<prost_types::Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| format!("{column} {text:?} is not an RFC 3339 time such as 2013-01-01T10:15:00Z"))?;
    Ok(Some(prost_types::Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond().cast_signed() }))
}

/// An error of the CSV reader without the position, which the caller prints.
fn plain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not valid UTF-8".into(),
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}
