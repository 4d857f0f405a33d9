//! Tests of `rows`. The files in tests/data/csv show the messages.

use super::*;

/// The line, and the event_id or the number of unread lines.
fn outline(text: &str) -> Vec<(u64, Result<String, u64>)> {
    let rows = Rows::of(text.as_bytes()).expect("a good header line");
    rows.map(|row| (row.line, row.event.map(|event| event.event_id).map_err(|problem| problem.unread))).collect()
}

#[test]
fn a_hundred_thousand_lines_with_a_bad_one_are_one_problem() {
    let lines = (2..=100_001).map(|line| match line {
        50_000 => "broken,five\n".to_owned(),
        _ => format!("event-{line},5\n"),
    });
    let text: String = std::iter::once("event_id,capacity\n".to_owned()).chain(lines).collect();
    let (mut good, mut bad) = (0, Vec::new());
    for row in Rows::of(text.as_bytes()).expect("a good header line") {
        match row.event {
            Ok(event) => {
                assert_eq!(event.event_id, format!("event-{}", row.line));
                good += 1;
            }
            Err(problem) => bad.extend(problem.messages),
        }
    }
    let message = "line 50000, column capacity: \"five\" is not a whole number; write digits only, such as 150";
    assert_eq!((good, bad), (99_999, vec![message.to_owned()]));
}

#[test]
fn lines_that_a_quote_swallows_are_counted_and_reading_goes_on_behind_them() {
    let header = "event_id,capacity,display_name\n";
    for (text, expected) in [
        ("a,1,\"x\nb,1,y\nc,1,z\n", vec![(2, Err(3))]),
        ("a,1,x\nb,1,\"y\nc,1,z\nd,1,\"w\"\ne,1,v\n", vec![(2, Ok("a")), (3, Err(2)), (5, Ok("d")), (6, Ok("e"))]),
        ("a,1,\"x\" y\nb,1,y\n", vec![(2, Err(0)), (3, Ok("b"))]),
        ("a,1, \"x\"\r\n\r\nb,1,y", vec![(2, Err(0)), (4, Ok("b"))]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(line, id)| (line, id.map(str::to_owned))).collect();
        assert_eq!(outline(&format!("{header}{text}")), expected, "{text:?}");
    }
}

#[test]
fn an_id_belongs_to_the_first_good_line_that_has_it() {
    let text = "event_id,capacity\na,x\na,5\nb,5\nb,5\nb,6\n";
    let expected = [(2, Err(0)), (3, Ok("a".to_owned())), (4, Ok("b".to_owned())), (5, Err(0)), (6, Err(0))];
    assert_eq!(outline(text), expected);
}
