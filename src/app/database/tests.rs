//! Tests of `database`.

use super::*;

fn threads(key: &str, value: &str, cores: usize) -> usize {
    let flags = vec![(key.to_owned(), value.to_owned())];
    worker_threads(&Config::load(None, &flags).expect("the settings are right"), cores)
}

#[test]
fn cores_are_shared_with_a_postgresql_that_is_here() {
    let here = [
        "",
        "postgres://me@localhost/x",
        "postgres://me@127.0.0.1:5433/x",
        "postgres://me@[::1]/x",
        "postgres://me@%2Frun%2Fpostgresql/x",
        "postgres:///x?host=/run/postgresql",
    ];
    for url in here {
        assert_eq!([1, 2, 3, 8].map(|cores| threads("database.url", url, cores)), [1, 1, 2, 4], "{url}");
    }
    for url in ["postgres://me@db.example/x", "postgresql://10.0.0.1/x"] {
        assert_eq!([1, 2, 3, 8].map(|cores| threads("database.url", url, cores)), [1, 2, 3, 8], "{url}");
    }
    assert_eq!(threads("server.worker_threads", "3", 2), 3);
}
