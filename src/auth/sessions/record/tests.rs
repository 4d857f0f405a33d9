//! Tests of `record`.

use super::*;

fn stored(change: impl FnOnce(&mut [Option<String>; 12])) -> Option<Session> {
    let fields =
        ["ann", "user", "token:shop", "", "sliding", "60000", "1000", "2000", "90000", "53500", "50000", "3500"];
    let mut fields = fields.map(|text| Some(text.to_owned()));
    change(&mut fields);
    StoredSession(fields).session(SessionId::parse(&"A".repeat(43)).expect("an id"))
}

#[test]
fn a_session_is_read_from_its_fields() {
    let session = stored(|_| {}).expect("good");
    assert_eq!(session.principal().expect("a principal").name.as_str(), "session:ann");
    assert_eq!((session.idle, session.left), (Duration::from_millis(1500), Duration::from_secs(50)));
    assert_eq!(session.expires.micros(), 53_500_000);
}

#[test]
fn a_session_without_the_role_user_has_no_user_id() {
    let manager = stored(|fields| fields[1] = Some("event.manager".into())).expect("good");
    assert_eq!(manager.principal().expect("a principal").user_id, None);
}

#[test]
fn malformed_fields_grant_no_access() {
    for place in 0..12 {
        assert_eq!(stored(|fields| fields[place] = None), None, "without field {place}");
    }
    for (place, wrong) in [(0, ""), (0, "a b"), (1, "king"), (1, "user king"), (4, "eternal"), (5, "-1"), (10, "x")] {
        assert_eq!(stored(|fields| fields[place] = Some(wrong.into())), None, "{wrong:?} as field {place}");
    }
    assert_eq!(stored(|fields| fields[8] = Some(i64::MAX.to_string())), None, "an end out of range");
}
