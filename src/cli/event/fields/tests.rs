//! Tests of `fields`.

use super::{super::super::event_file::columns, *};

/// The columns that have a flag of another kind, or none because commands of their own change them.
const OTHERS: [&str; 4] = ["event_id", "capacity", "state", "cancel_reason"];

#[test]
fn every_column_has_a_flag_of_its_name() {
    let flags: Vec<_> = FLAGS.iter().map(|(flag, _)| column(flag).name()).collect();
    let columns: Vec<_> = columns::of_events(&[]).iter().map(Column::name).collect();
    let expected: Vec<_> = columns.into_iter().filter(|name| !OTHERS.contains(&name.as_str())).collect();
    assert_eq!(flags, expected);
}

#[test]
fn the_paths_are_those_of_update_event() {
    let given = ["display-name", "hold-ttl-max", "waitlist-enabled", "waitlist-order"];
    let fields = Fields(given.map(|flag| (flag, String::new())).to_vec());
    assert_eq!(fields.paths(), ["display_name", "limits.hold_ttl_max", "waitlist"]);
}

#[test]
fn an_empty_value_clears_a_field() {
    let mut event = Event { display_name: "Hamlet".into(), venue_id: "hall".into(), ..Event::default() };
    Fields(vec![("display-name", String::new())]).apply(&mut event).expect("empty is allowed");
    assert_eq!((event.display_name.as_str(), event.venue_id.as_str()), ("", "hall"));
}
