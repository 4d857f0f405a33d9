//! Tests of `table`.

use super::*;

#[test]
fn columns_are_aligned_and_lines_have_no_blanks_at_their_end() {
    let mut table = Table::new(&[Column::Text("EVENT"), Column::Number("FREE"), Column::Text("NAME")]);
    table.row(["a-long-name".into(), "7".into(), "Köln".into()]);
    table.row(["b".into(), "12345".into(), String::new()]);
    let expected = "EVENT         FREE  NAME\na-long-name      7  Köln\nb            12345\n";
    assert_eq!(table.to_string(), expected);
}

#[test]
fn a_cell_has_one_line_and_no_control_characters() {
    let mut table = Table::new(&[Column::Text("REASON")]);
    table.row(["ill\nagain\x1b[2J\tnow".into()]);
    assert_eq!(table.to_string(), "REASON\nill again [2J now\n");
}

#[test]
fn pairs_without_a_value_are_left_out() {
    let pairs = [("event", "hamlet"), ("venue", ""), ("capacity", "9")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(Table::of_pairs(pairs).to_string(), "event     hamlet\ncapacity  9\n");
}
