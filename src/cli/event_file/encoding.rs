//! The encoding and the separator of a file.

use std::borrow::Cow;

/// The usual separators, with their names.
pub const SEPARATORS: [(u8, &str); 4] =
    [(b',', "commas"), (b';', "semicolons"), (b'\t', "tabs"), (b'|', "vertical bars")];

/// What is wrong with text in another encoding.
pub const NOT_UTF8: &str = "is not UTF-8; save the file as \"CSV UTF-8\" in the spreadsheet program";

/// The text of a file, without its byte order mark. Only UTF-16 is converted: cells that are not UTF-8 are reported one
/// by one.
pub fn decode(file: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match file {
        [b'P', b'K', 3, 4, ..] | [0xD0, 0xCF, 0x11, 0xE0, ..] => {
            Err("this is a spreadsheet, not CSV; save it as \"CSV UTF-8\" in the spreadsheet program".into())
        }
        [b'<' | b'{' | b'[', ..] => Err("this is HTML, XML or JSON, not CSV".into()),
        [0xEF, 0xBB, 0xBF, text @ ..] => Ok(text.into()),
        [0xFF, 0xFE, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xFE, 0xFF, text @ ..] => utf16(text, u16::from_be_bytes),
        // No header line has a NUL character, but the ASCII characters of UTF-16 have a zero byte.
        [_, 0, ..] => utf16(file, u16::from_le_bytes),
        [0, _, ..] => utf16(file, u16::from_be_bytes),
        _ => Ok(file.into()),
    }
}

fn utf16(text: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, [u8]>, String> {
    let (pairs, rest) = text.as_chunks();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    match String::from_utf16(&units) {
        Ok(text) if rest.is_empty() => Ok(text.into_bytes().into()),
        _ => Err("this is damaged UTF-16; save it as \"CSV UTF-8\" in the spreadsheet program".into()),
    }
}

/// The separator that a first line such as `sep=;` declares for Excel, and the length of that line.
pub fn declared_separator(text: &[u8]) -> Option<(u8, usize)> {
    let length = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(text.len());
    let line = &text[..length];
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line {
        [name @ .., b'=', separator] if name.eq_ignore_ascii_case(b"sep") && *separator != b'"' => {
            Some((*separator, length))
        }
        _ => None,
    }
}

/// The name of a separator, for messages.
pub fn separator_name(separator: u8) -> String {
    let known = SEPARATORS.iter().find(|(known, _)| *known == separator);
    known.map_or_else(|| format!("{:?}", char::from(separator)), |(_, name)| (*name).to_owned())
}

/// The number of line ends: LF, CR or CRLF.
pub fn line_ends(text: &[u8]) -> u64 {
    let ends = text.iter().enumerate().filter(|(place, byte)| match byte {
        b'\n' => true,
        b'\r' => text.get(place + 1) != Some(&b'\n'),
        _ => false,
    });
    ends.count() as u64
}

#[cfg(test)]
mod tests;
