//! Tests of `ids`.

use super::*;

#[test]
fn the_ids_of_events_series_and_venues_have_one_narrow_format() {
    for good in ["a", "7", "a@b.example", "A-1_b:c~d+e", &"x".repeat(128)] {
        assert_eq!(EventId::parse(good).expect(good).as_str(), good);
        assert!(SeriesId::parse(good).is_some() && VenueId::parse(good).is_some());
    }
    for bad in ["", " ", "a b", "a\n", "a\0", "é", "\u{7f}", "-a", ".a", "a/b", "a|b", "a,b", &"x".repeat(129)] {
        assert_eq!(EventId::parse(bad), None, "{bad:?}");
        assert!(SeriesId::parse(bad).is_none() && VenueId::parse(bad).is_none());
    }
}

#[test]
fn a_user_id_is_any_visible_ascii_of_bounded_length() {
    for good in ["a", "auth0|42", "a@b.example", "#!/", &"x".repeat(255)] {
        assert_eq!(UserId::parse(good).expect(good).as_str(), good);
    }
    for bad in ["", " ", "a b", "a\n", "é", "\u{7f}", &"x".repeat(256)] {
        assert_eq!(UserId::parse(bad), None, "{bad:?}");
    }
    assert_ne!(UserId::parse("Ann"), UserId::parse("ann"));
}

#[test]
fn a_users_own_request_id_is_no_other_users_and_no_clients() {
    let (ann, bob) = (UserId::parse("ann").expect("valid"), UserId::parse("bob").expect("valid"));
    let said = RequestId::parse("order-7").expect("valid");
    let own = said.of(&ann);
    assert!(own != said && own != said.of(&bob) && RequestId::parse(own.as_str()).is_none());
    assert_eq!((own.said(), own.of(&ann)), ("order-7", own.clone()));
    assert_eq!(RequestId::from_record(own.as_str()), Some(own));
    assert_eq!(RequestId::from_record("order-7"), Some(said));
    for bad in ["", " ", "ann ", " order-7", "a b c"] {
        assert_eq!(RequestId::from_record(bad), None, "{bad:?}");
    }
}

#[test]
fn a_reservation_id_has_one_spelling() {
    let id = "0190b6d4-5b7e-7c3a-9f00-0123456789ab";
    assert_eq!(ReservationId::parse(id).expect("valid").to_string(), id);
    for bad in ["", "x", "0190b6d45b7e7c3a9f000123456789ab", "{0190b6d4-5b7e-7c3a-9f00-0123456789ab}"] {
        assert_eq!(ReservationId::parse(bad), None, "{bad:?}");
    }
}
