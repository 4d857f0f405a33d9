//! Tests of `account`.

use super::*;

/// Finds a user on a machine that has these.
fn find(wanted: Option<&str>, users: &[&str]) -> Result<String, String> {
    let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
    let known = |name: &str| {
        let uid = Uid::from_raw(if name == "toor" { 0 } else { 1000 });
        users.contains(&name).then(|| User { name: name.to_owned(), uid, ..root.clone() })
    };
    Account::find(wanted, known).map(|account| account.name).map_err(|error| error.to_string())
}

#[test]
fn root_runs_postgresql_as_a_user_that_nothing_else_is() {
    assert_eq!(find(None, &["nobody", "reservd", "postgres"]).unwrap(), "postgres");
    assert_eq!(find(None, &["nobody", "reservd"]).unwrap(), "reservd");
    assert_eq!(find(Some("dba"), &["postgres", "dba"]).unwrap(), "dba");
}

#[test]
fn without_such_a_user_the_error_says_how_to_make_one() {
    let error = find(None, &["nobody"]).unwrap_err();
    assert!(error.contains("no user postgres or reservd") && error.contains("useradd --system reservd"), "{error}");
    assert!(error.contains("embedded.os_user") && !error.contains('\n'), "{error}");
    assert!(find(Some("toor"), &["toor", "postgres"]).unwrap_err().contains("toor is root too"));
}
