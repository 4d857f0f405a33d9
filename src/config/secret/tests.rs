//! Tests of `secret`.

use super::*;

#[test]
fn secrets_print_redacted() {
    for (url, printed) in [
        ("postgres://me:s3cret@db.example/x", "postgres://***@db.example/x"),
        ("postgres://me:p@ss@db.example:5433/x", "postgres://***@db.example:5433/x"),
        ("postgres://me@db.example/x?password=s3cret", "postgres://***@db.example/x?***"),
        ("postgres:///x?host=/run&password=s3cret", "postgres:///x?***"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("https://s3cret@spans.example/v1#s3cret", "https://***@spans.example/v1#***"),
        ("postgres://me:s3cret?1@db.example/x", "***"),
        ("postgres://me:12?s3cret@db.example/x", "***"),
        ("postgres://me:12/s3cret@db.example/x", "***"),
        ("postgres://me:12#s3cret@db.example/x", "***"),
        ("postgres:me:s3cret@db.example/x", "***"),
        ("host=db password=s3cret", "***"),
        ("", ""),
    ] {
        assert_eq!(SecretUrl(url.into()).to_string(), printed);
        assert_eq!(format!("{:?}", SecretUrl(url.into())), format!("{printed:?}"));
    }
}
