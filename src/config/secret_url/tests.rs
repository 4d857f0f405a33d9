//! Tests of `secret_url`.

use super::*;

#[test]
fn secrets_print_redacted() {
    for (url, printed) in [
        ("postgres://me:s3cret@db.example/x", "postgres://me:***@db.example/x"),
        ("postgres://me:p@ss@db.example/x", "postgres://me:***@db.example/x"),
        ("postgres://me@db.example/x?password=s3cret", "postgres://me@db.example/x?***"),
        ("host=db password=s3cret", "***"),
        ("", ""),
    ] {
        assert_eq!(SecretUrl(url.into()).to_string(), printed);
        assert_eq!(format!("{:?}", SecretUrl(url.into())), format!("{printed:?}"));
    }
}
