//! Tests of `folder`.

use super::*;

fn socket_dir_in(path: &str) -> PathBuf {
    Folder(PathBuf::from(path)).choose_socket_dir()
}

#[test]
fn the_socket_is_in_the_data_folder_if_the_path_is_short() {
    assert_eq!(socket_dir_in("/var/lib/reservd"), Path::new("/var/lib/reservd/run"));
}

#[test]
fn the_path_of_the_socket_is_never_too_long() {
    for length in 1..300 {
        let socket = socket_file(&socket_dir_in(&format!("/{}", "é".repeat(length))));
        assert!(socket.as_os_str().as_bytes().len() <= SOCKET_PATH_LIMIT);
    }
}

#[test]
fn two_long_folders_do_not_share_a_socket() {
    let long = format!("/{}", "x".repeat(200));
    assert_ne!(socket_dir_in(&long), socket_dir_in(&long));
}
