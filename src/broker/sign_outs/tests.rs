//! Tests of `sign_outs`.

use super::*;

#[test]
fn the_user_id_is_read_from_each_supported_body() {
    for body in [
        r#"{"user_id": "ann"}"#,
        r#"{"userId": "ann", "at": 7}"#,
        r#"{"specversion": "1.0", "type": "user.signed_out", "data": {"user_id": "ann"}}"#,
        r#"{"data": {"userId": "ann"}}"#,
    ] {
        assert_eq!(parse("user.deleted", body.as_bytes()).expect(body).as_str(), "ann");
    }
    for bad in ["", "ann", "{}", "[]", r#"{"user_id": 7}"#, r#"{"user_id": "Ann Example"}"#, r#"{"data": "ann"}"#] {
        parse("user.signed_out", bad.as_bytes()).expect_err(bad);
    }
    parse("user.created", br#"{"user_id": "ann"}"#).expect_err("not a sign-out");
}
