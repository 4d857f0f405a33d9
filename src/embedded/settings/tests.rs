//! Tests of `settings`.

use super::*;

#[test]
fn a_socket_folder_with_commas_and_quotes_stays_one_folder() {
    let quoted = quoted_list_item(Path::new("/data/a, \"b\" c"));
    assert_eq!(quoted, OsString::from("\"/data/a, \"\"b\"\" c\""));
}

#[test]
fn further_settings_come_last_and_so_override() {
    let mut options = EmbeddedOptions::for_tests("/data");
    options.settings = vec![("fsync".to_owned(), "on".to_owned())];
    let arguments = postgres_arguments(Path::new("/data/cluster"), Path::new("/s"), true, &options);
    assert!(arguments.contains(&OsString::from("fsync=off")));
    assert_eq!(arguments.last(), Some(&OsString::from("fsync=on")));
}
