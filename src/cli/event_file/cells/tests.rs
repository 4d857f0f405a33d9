//! Tests of `cells`.

use super::*;

#[test]
fn a_protected_text_is_read_back_and_is_no_formula() {
    for text in ["", "Hamlet", "=1+1", "'=1+1", "'", "''", "'tis pity", "+1", "-", "@home", "'@", "5\" screen", " = "] {
        let cell = protected(text);
        assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
        assert_eq!(unprotected(&cell), Ok(text), "{cell}");
    }
    assert_eq!(unprotected("'tis pity"), Ok("'tis pity"), "an apostrophe of a text is kept");
    assert_eq!(unprotected("'"), Ok(""));
    assert!(unprotected("=1+1").is_err());
}

#[test]
fn a_long_value_is_cut() {
    assert_eq!(shown(&"ä".repeat(80)), format!("\"{}\"", "ä".repeat(80)));
    assert_eq!(shown(&"ä".repeat(81)), format!("\"{}\"...", "ä".repeat(80)));
    assert_eq!(shown("a\0\n"), r#""a\0\n""#);
}

#[test]
fn advice_names_the_number_that_is_meant() {
    for (cell, meant) in [
        ("1,000", "1000"),
        ("1.000", "1000"),
        ("1\u{a0}000", "1000"),
        ("12'000'000", "12000000"),
        ("150.0", "150"),
        ("150,00", "150"),
        ("1,000.00", "1000"),
    ] {
        assert_eq!(meant_number(cell).as_deref(), Some(meant), "{cell}");
    }
    for cell in ["1.5", "1,00,000", "five", ",5", "5,", "", "1000,000.5", "-1"] {
        assert_eq!(meant_number(cell), None, "{cell}");
    }
}

#[test]
fn a_time_needs_its_zone() {
    assert_eq!(time("2030-05-01T19:30:00+02:00"), time("2030-05-01T17:30:00Z"));
    for local in ["2030-05-01T19:30:00", "2030-05-01 19:30", "2030-05-01T19:30:00.5"] {
        assert!(time(local).unwrap_err().starts_with("has no time zone; "), "{local}");
    }
    assert!(time("47604.8125").unwrap_err().starts_with("is a spreadsheet's number"));
    for wrong in ["", "2030-05-01", "2030-02-30T00:00:00Z", "5/1/2030 19:30"] {
        assert!(time(wrong).unwrap_err().starts_with("is not a time; "), "{wrong}");
    }
}

#[test]
fn values_are_written_as_they_are_read() {
    for text in ["2030-05-01T17:30:00Z", "2030-05-01T17:30:00.000001Z", "0001-01-01T00:00:00Z"] {
        assert_eq!(time(text).map(time_text).as_deref(), Ok(text));
    }
    for text in ["100ms", "90s", "1h 30m", "30days"] {
        let read = duration(text).expect("a duration");
        assert_eq!(duration(&duration_text(read)), Ok(read), "{text}");
    }
    assert!(duration("10").is_err());
    let names = [("true", true), ("false", false), ("yes", true)];
    assert_eq!((choice("YES", &names), choice_text(true, &names).as_str()), (Ok(true), "true"));
    assert_eq!(choice("1", &names).unwrap_err(), "is unknown; write true or false or yes");
}
