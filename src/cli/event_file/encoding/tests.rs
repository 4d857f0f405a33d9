//! Tests of `encoding`.

use super::*;

#[test]
fn every_unicode_encoding_gives_the_same_text() {
    let text = "event_id,capacity\nzürich,5\n";
    let units = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
    let marked = |mark: &[u8], text: &[u8]| [mark, text].concat();
    for file in [
        text.as_bytes().to_vec(),
        marked(b"\xEF\xBB\xBF", text.as_bytes()),
        marked(b"\xFF\xFE", &little),
        marked(b"\xFE\xFF", &big),
        little.clone(),
        big,
    ] {
        assert_eq!(decode(&file).as_deref(), Ok(text.as_bytes()));
    }
    assert!(decode(&little[1..]).is_err() && decode(&little[..5]).is_err());
}

#[test]
fn the_declared_separator_is_that_of_the_first_line() {
    assert_eq!(declared_separator(b"sep=;\r\na;b"), Some((b';', 5)));
    assert_eq!(declared_separator(b"\"SEP=\t\"\na\tb"), Some((b'\t', 7)));
    for none in [&b""[..], b"sep=\n", b"sep=;;\n", b"a\nsep=;", b"event_id,capacity"] {
        assert_eq!(declared_separator(none), None, "{none:?}");
    }
}

#[test]
fn each_kind_of_line_end_counts_once() {
    assert_eq!(line_ends(b"a\nb\rc\r\nd\n\r"), 5);
}
