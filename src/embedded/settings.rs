//! The settings that `postgres` runs under, as its command line. They are given on each start
//! and not kept in the cluster, so a new reservd brings its own to an old data folder.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::EmbeddedOptions;
use super::folder::PORT;

/// For two cores and a gigabyte or two of memory to share with the rest.
const SETTINGS: [(&str, &str); 15] = [
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("cluster_name", "reservd"),
    ("shared_buffers", "256MB"),
    // An acknowledged commit is on disk; without fsync, off would gain nothing.
    ("synchronous_commit", "on"),
    ("max_wal_size", "2GB"),
    // Used segments of the log are used again: to make a new one holds up every commit.
    ("min_wal_size", "512MB"),
    ("checkpoint_timeout", "15min"),
    ("random_page_cost", "1.1"),
    // Our statements take less time than compiling them would.
    ("jit", "off"),
    // Hot rows leave dead versions faster than the default looks.
    ("autovacuum_naptime", "15s"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
];

/// Off, a power cut may ruin the cluster, but nothing that only kills processes loses a
/// commit: tests may kill the server too.
const ONLY_IF_DURABLE: [&str; 2] = ["fsync", "full_page_writes"];

/// How full pages in the log are compressed, which after a checkpoint are most of its bytes. LZ4 takes a small
/// part of the time of PostgreSQL's own way, but not every build and version has it.
pub(super) const COMPRESSION: &str = "wal_compression";
pub(super) const FAST_COMPRESSION: &str = "lz4";
const ANY_COMPRESSION: &str = "on";

pub(super) fn postgres_arguments(
    cluster: &Path,
    socket_dir: &Path,
    compresses_fast: bool,
    options: &EmbeddedOptions,
) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("-D"), cluster.into()];
    let mut set = |name: &str, value: OsString| {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        arguments.extend([OsString::from("-c"), setting]);
    };
    set("unix_socket_directories", quoted_list_item(socket_dir));
    set("port", PORT.to_string().into());
    set("max_connections", options.max_connections.to_string().into());
    for name in ONLY_IF_DURABLE {
        set(name, if options.durable { "on" } else { "off" }.into());
    }
    for (name, value) in SETTINGS {
        set(name, value.into());
    }
    set(COMPRESSION, if compresses_fast { FAST_COMPRESSION } else { ANY_COMPRESSION }.into());
    for (name, value) in &options.settings {
        set(name, value.into());
    }
    arguments
}

/// In a setting that is a list, commas and blanks would end the item.
fn quoted_list_item(path: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        quoted.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_folder_with_commas_and_quotes_stays_one_folder() {
        let quoted = quoted_list_item(Path::new("/data/a, \"b\" c"));
        assert_eq!(quoted, OsString::from("\"/data/a, \"\"b\"\" c\""));
    }

    #[test]
    fn given_settings_come_last_and_so_win() {
        let mut options = EmbeddedOptions::for_tests("/data");
        options.settings = vec![("fsync".to_owned(), "on".to_owned())];
        let arguments = postgres_arguments(Path::new("/data/cluster"), Path::new("/s"), true, &options);
        assert!(arguments.contains(&OsString::from("fsync=off")));
        assert_eq!(arguments.last(), Some(&OsString::from("fsync=on")));
    }
}
