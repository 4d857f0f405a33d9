//! Tests of `session_token`.

use super::*;

#[test]
fn tokens_are_distinct_and_each_has_one_id() {
    let (one, other) = (SessionToken::new().expect("randomness"), SessionToken::new().expect("randomness"));
    assert!(one.expose() != other.expose() && one.id() != other.id());
    assert_eq!(SessionId::of_token(one.expose()), Ok(one.id()));
    assert_eq!(SessionId::parse(&one.id().to_string()), Some(one.id()));
    assert!(!format!("{one:?} {:?}", one.id()).contains(&one.expose()[3..]), "neither prints the token");
}

#[test]
fn a_token_has_one_canonical_form() {
    let good = format!("rs_{}", "A".repeat(43));
    assert!(SessionId::of_token(&good).is_ok());
    for bad in [
        "",
        "rs_",
        &good[..45],
        &format!("{good}A"),
        &format!("{}=", &good[..45]),
        &format!("{}B", &good[..45]),
        &format!("{}+", &good[..45]),
        &format!("RS_{}", &good[3..]),
        &format!("rs-{}", &good[3..]),
        &format!("{} ", &good[..45]),
        &format!("rs_{}", "A".repeat(100_000)),
    ] {
        assert_eq!(SessionId::of_token(bad), Err(TokenProblem::SessionShape), "{bad:.60}");
    }
    for bad in ["", "x", &good, &"A".repeat(44), &format!("{}B", "A".repeat(42))] {
        assert_eq!(SessionId::parse(bad), None, "{bad}");
    }
}
