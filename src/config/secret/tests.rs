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
        ("https://s3cret@spans.example/s3cret#s3cret", "https://***@spans.example/***#***"),
        ("http://spans.example:4317", "http://spans.example:4317/"),
        ("https://spans.example/v1/s3cret", "https://spans.example/***"),
        ("https://id.example/.well-known/jwks.json", "https://id.example/.well-known/jwks.json"),
        ("postgres://db.example/x/s3cret", "postgres://db.example/***"),
        ("postgres://db.example/x;password=s3cret", "postgres://db.example/***"),
        ("amqps://me:s3cret@mq.example/shop", "amqps://***@mq.example/shop"),
        ("amqps://mq.example/%2f?auth=s3cret", "amqps://mq.example/***?***"),
        ("redis://:s3cret@cache.example/s3cret%2F0", "redis://***@cache.example/***"),
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
