//! Tests of `pid_file`.

use super::*;

const RUNNING: &str = "4711\n/data/cluster\n1763664000\n5432\n/data/run\n\n  9 32769\nready   \n";

#[test]
fn the_file_of_a_running_server_has_its_socket() {
    let expected = PidFile { pid: Pid::from_raw(4711), socket_dir: PathBuf::from("/data/run"), ready: true };
    assert_eq!(PidFile::parse(RUNNING), Some(expected));
}

#[test]
fn a_starting_server_is_not_ready() {
    let starting = RUNNING.replace("ready", "starting");
    assert!(PidFile::parse(&starting).is_some_and(|file| !file.ready));
    assert!(PidFile::parse("4711\n/data/cluster\n").is_some_and(|file| !file.ready));
    assert_eq!(PidFile::parse(""), None);
}

#[test]
fn a_reused_process_id_does_not_block_the_start() {
    let cluster = std::env::temp_dir().join(format!("reservd-pid-{}", std::process::id()));
    std::fs::create_dir(&cluster).unwrap();
    std::fs::write(path(&cluster), std::process::id().to_string()).unwrap();

    remove_if_stale(&cluster).unwrap();

    let removed = !path(&cluster).exists();
    std::fs::remove_dir_all(&cluster).unwrap();
    assert_eq!(removed, Path::new("/proc/self").exists());
}
