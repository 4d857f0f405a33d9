//! The settings of `postgres`, as its command line. They are passed at each start and not stored in the cluster, so
//! that a new reservd applies its own to an old data folder.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::folder::PORT;
use super::options::EmbeddedOptions;

/// Sized for two cores and one or two gigabytes of memory, shared with other processes.
const SETTINGS: [(&str, &str); 15] = [
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("cluster_name", "reservd"),
    ("shared_buffers", "256MB"),
    // An acknowledged commit is on disk; where fsync is off, turning this off gains nothing.
    ("synchronous_commit", "on"),
    ("max_wal_size", "2GB"),
    // Recycles segments of the log: creating a new one delays every commit.
    ("min_wal_size", "512MB"),
    ("checkpoint_timeout", "15min"),
    ("random_page_cost", "1.1"),
    // The statements are faster than their compilation.
    ("jit", "off"),
    // Hot rows create dead versions faster than the default interval removes them.
    ("autovacuum_naptime", "15s"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
];

/// Without these, a power cut may ruin the cluster, but killing processes loses no commit, so tests may kill the
/// server too.
const ONLY_IF_DURABLE: [&str; 2] = ["fsync", "full_page_writes"];

/// The compression of full pages, which are most of the log after a checkpoint. LZ4 is much faster than PostgreSQL's
/// own compression, but not every build and version has it.
pub(super) const COMPRESSION: &str = "wal_compression";
pub(super) const LZ4: &str = "lz4";
const BUILT_IN: &str = "on";

pub(super) fn postgres_arguments(
    cluster: &Path,
    socket_dir: &Path,
    has_lz4: bool,
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
    set(COMPRESSION, if has_lz4 { LZ4 } else { BUILT_IN }.into());
    for (name, value) in &options.settings {
        set(name, value.into());
    }
    arguments
}

/// Quotes an item of a list setting, in which commas and spaces would end it.
fn quoted_list_item(path: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        quoted.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests;
