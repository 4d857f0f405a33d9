//! Quotes in a record. The CSV reader accepts everything: a quote that is never closed makes the rest of the file one
//! cell. This finds the cell whose quotes are wrong.

/// A cell with wrong quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misquote {
    /// The place of the cell in its record.
    pub cell: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a cell's quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The quote that begins the cell is never closed.
    NeverClosed,
    /// Text follows the closing quote, which is at this byte.
    TextAfter(usize),
    /// Blanks are before the quote.
    BlankBefore,
}

/// Checks the quotes of the record with which `text` begins.
pub fn check(text: &[u8], separator: u8) -> Result<(), Misquote> {
    let ends_cell = |byte: &u8| *byte == separator || matches!(byte, b'\r' | b'\n');
    let (mut start, mut cell) = (0, 0);
    loop {
        let misquote = |fault| Err(Misquote { cell, fault });
        let rest = &text[start..];
        let mut end = start + rest.iter().position(ends_cell).unwrap_or(rest.len());
        if rest.first() == Some(&b'"') {
            let Some(close) = closing_quote(text, start + 1) else { return misquote(Fault::NeverClosed) };
            end = close + 1;
            if text.get(end).is_some_and(|next| !ends_cell(next)) {
                return misquote(Fault::TextAfter(close));
            }
        } else if text[start..end].trim_ascii_start().first() == Some(&b'"') {
            return misquote(Fault::BlankBefore);
        }
        if text.get(end) != Some(&separator) {
            return Ok(());
        }
        (start, cell) = (end + 1, cell + 1);
    }
}

/// The first quote from `start` on that is not written twice.
fn closing_quote(text: &[u8], mut start: usize) -> Option<usize> {
    loop {
        let quote = start + text.get(start..)?.iter().position(|byte| *byte == b'"')?;
        if text.get(quote + 1) != Some(&b'"') {
            return Some(quote);
        }
        start = quote + 2;
    }
}

#[cfg(test)]
mod tests;
