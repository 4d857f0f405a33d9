//! Tests of `quoting`.

use super::*;

#[test]
fn good_quotes_are_accepted() {
    for text in ["", "a,b", "\"a\",\"b\"", "\"a\"\"\",", "\"a,\r\nb\",c\nnext,\"", "5\" screen,b", "\"\",\"\"\r\n"] {
        assert_eq!(check(text.as_bytes(), b','), Ok(()), "{text:?}");
    }
    assert_eq!(check(b"\"a;b\";c", b';'), Ok(()));
}

#[test]
fn the_cell_with_wrong_quotes_is_found() {
    for (text, cell, fault) in [
        ("a,\"b", 1, Fault::NeverClosed),
        ("a,\"b\nc,d\n", 1, Fault::NeverClosed),
        ("a,\"b\"\"", 1, Fault::NeverClosed),
        ("\"a\" b,c", 0, Fault::TextAfter(2)),
        ("a,\"b\nc,\"d\"", 1, Fault::TextAfter(7)),
        ("\"a\"x\"", 0, Fault::TextAfter(2)),
        ("a, \"b, c\"", 1, Fault::BlankBefore),
    ] {
        assert_eq!(check(text.as_bytes(), b','), Err(Misquote { cell, fault }), "{text:?}");
    }
}
