//! Tests of `record`.

use std::ops::Add;

use super::*;

fn id() -> SessionId {
    SessionId::parse(&"A".repeat(43)).expect("an id")
}

fn stored(change: impl FnOnce(&mut [Option<String>; 13])) -> Option<Session> {
    let fields =
        ["ann", "user", "token:shop", "", "sliding", "60000", "1000", "2000", "90000", "53500", "", "50000", "3500"];
    let mut fields = fields.map(|text| Some(text.to_owned()));
    change(&mut fields);
    StoredSession(fields).session(id(), None)
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
    for place in (0..13).filter(|place| *place != 10) {
        assert_eq!(stored(|fields| fields[place] = None), None, "without field {place}");
    }
    for (place, wrong) in [(0, ""), (0, "a b"), (1, "king"), (1, "user king"), (4, "eternal"), (5, "-1"), (11, "x")] {
        assert_eq!(stored(|fields| fields[place] = Some(wrong.into())), None, "{wrong:?} as field {place}");
    }
    assert_eq!(stored(|fields| fields[8] = Some(i64::MAX.to_string())), None, "an end out of range");
}

#[test]
fn a_session_ends_when_its_record_says_so_whatever_the_expiry_of_its_key() {
    let session = stored(|fields| fields[11] = Some("999999".into())).expect("good");
    assert_eq!(session.left, Duration::from_millis(86_500));
    assert_eq!(stored(|fields| fields[12] = Some("90001".into())), None, "it is over");
}

#[test]
fn with_a_key_only_what_it_signed_is_a_session() {
    let [key, other] = ["k", "l"].map(|secret| RecordKey::new(secret).expect("it is not empty"));
    let new = NewSession {
        user_id: UserId::parse("ann").expect("an id"),
        roles: Roles::of(&[Role::User]),
        kind: SessionKind::Sliding,
        lifetime: Duration::from_secs(60),
        created_by: "token:shop".into(),
        description: "a phone".into(),
    };
    let [_, signed @ ..] = new.encode(id(), 1000, 90_000);
    let signature = key.sign(&new.encode(id(), 1000, 90_000));
    let read = |id: SessionId, key: &RecordKey, change: Option<(usize, &str)>| {
        let [user_id, roles, created_by, description, kind, lifetime, created, ends] = signed.clone();
        let (used, expires, left, now) = ("2000", "53500", "50000", "3500");
        let (used, expires, left, now) = (used.into(), expires.into(), left.into(), now.into());
        let fields = [
            user_id,
            roles,
            created_by,
            description,
            kind,
            lifetime,
            created,
            used,
            ends,
            expires,
            signature.clone(),
            left,
            now,
        ];
        let mut fields = fields.map(Some);
        if let Some((place, text)) = change {
            fields[place] = Some(text.to_owned());
        }
        StoredSession(fields).session(id, Some(key))
    };
    assert!(read(id(), &key, None).is_some());
    assert_eq!(read(id(), &other, None), None, "another key");
    assert_eq!(read(SessionId::parse(&"B".repeat(42).add("A")).expect("an id"), &key, None), None, "another's record");
    for (place, text) in [
        (0, "root"),
        (1, "admin"),
        (2, "token:desk"),
        (3, "a desk"),
        (4, "fixed"),
        (5, "60001"),
        (6, "1001"),
        (8, "90001"),
        (10, ""),
        (10, "AAAA"),
    ] {
        assert_eq!(read(id(), &key, Some((place, text))), None, "{text:?} as field {place}");
    }
    assert!(read(id(), &key, Some((7, "3000"))).is_some(), "each use changes this one");
}
