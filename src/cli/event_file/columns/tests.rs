//! Tests of `columns`.

use super::*;

/// An event of which each column has a value.
fn full() -> Event {
    let cells = [
        ("event_id", "concert-1"),
        ("capacity", "5"),
        ("display_name", "'=1+1"),
        ("series_id", "S-1"),
        ("series_display_name", "The series"),
        ("venue_id", "hall-1"),
        ("venue_display_name", " The hall"),
        ("start_time", "2030-05-01T19:30:00+02:00"),
        ("end_time", "2030-05-01T22:30:00+02:00"),
        ("booking_open_time", "2030-01-01T00:00:00Z"),
        ("booking_close_time", "2030-05-01T00:00:00.5Z"),
        ("max_quantity", "4"),
        ("hold_ttl_default", "90s"),
        ("hold_ttl_max", "1h 30m"),
        ("max_extensions", "0"),
        ("waitlist_enabled", "yes"),
        ("waitlist_max_size", "7"),
        ("waitlist_offer_ttl", "1day"),
        ("waitlist_order", "skip_too_large"),
        ("waitlist_max_skips", "2"),
        ("waitlist_newcomers_may_overtake", "TRUE"),
        ("waitlist_join_before_booking", "yes"),
        ("state", "cancelled"),
        ("cancel_reason", " ill\nsorry "),
        ("label.genre", "drama,\ttwo\r\nlines"),
        ("label.shop/id", "'"),
    ];
    let mut event = Event::default();
    for (name, cell) in cells {
        Column::of(name).expect("a known column").read(&mut event, cell).expect("a good cell");
    }
    assert!(FIELDS.iter().all(|Field(name, _)| cells.iter().any(|(given, _)| given == name)), "a column is missing");
    event
}

#[test]
fn what_is_written_is_read_as_the_same_event() {
    let mut event = as_stored(full()).expect("a good event");
    let mut copy = Event::default();
    for column in of_events(std::slice::from_ref(&event)) {
        column.read(&mut copy, &column.cell(&mut event)).expect("what was written can be read");
    }
    assert_eq!(copy, full());
    assert_eq!(as_stored(copy), Ok(event));
}

#[test]
fn an_event_of_defaults_differs_in_nothing_from_a_line_without_values() {
    let columns: Vec<_> = FIELDS.iter().map(Column::Field).chain([Column::Label("genre".into())]).collect();
    let line = Event { event_id: "a".into(), ..Event::default() };
    let mut stored = as_stored(line).expect("a good event");
    assert_eq!(differences(&columns, &mut stored.clone(), &mut stored), Vec::<String>::new());
    stored.capacity = 9;
    stored.labels.insert("genre".into(), "drama".into());
    let mut line = as_stored(Event { event_id: "a".into(), ..Event::default() }).expect("a good event");
    let expected = ["capacity is 9, the line says 0", "label.genre is \"drama\", the line says empty"];
    assert_eq!(differences(&columns, &mut stored, &mut line), expected);
}

#[test]
fn headers_match_without_case_blanks_and_hyphens() {
    for (header, name) in [
        (" Event_ID ", "event_id"),
        ("EventId", "event_id"),
        ("Display Name", "display_name"),
        ("start-time", "start_time"),
        ("LABEL.Genre", "label.genre"),
    ] {
        assert_eq!(Column::of(header).map(|column| column.name()).as_deref(), Some(name), "{header}");
    }
    for unknown in ["", "event", "label.", "label.a b", "label.é", "price"] {
        assert!(Column::of(unknown).is_none(), "{unknown}");
    }
}

#[test]
fn a_broken_rule_is_about_its_column() {
    let event = Event {
        event_id: "a".into(),
        limits: Some(EventLimits { max_quantity: Some(0), ..Default::default() }),
        waitlist: Some(WaitlistPolicy { max_size: Some(0), ..Default::default() }),
        labels: [("key".to_owned(), "\0".to_owned())].into(),
        ..Event::default()
    };
    let broken: Vec<_> = as_stored(event).expect_err("bad").into_iter().map(|(name, _)| name).collect();
    assert_eq!(broken, ["max_quantity", "label.key", "waitlist_max_size"]);
    let reason = Event { event_id: "a".into(), cancel_reason: "ill".into(), ..Event::default() };
    assert_eq!(as_stored(reason).expect_err("bad")[0].0, "cancel_reason");
}
