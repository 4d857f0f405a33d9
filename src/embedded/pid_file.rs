//! PostgreSQL's `postmaster.pid`, in which a running server records its process id, its socket folder and whether it
//! accepts connections. A killed server leaves it behind.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// The content of the file, which is true only while the server runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Pid,
    pub(super) socket_dir: PathBuf,
    pub(super) ready: bool,
}

impl PidFile {
    /// None if there is no such file, or it is being written.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(path(cluster)).ok()?)
    }

    /// One value a line: process id, data folder, start time, port, socket folder, TCP address, shared memory,
    /// status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let pid: i32 = lines.first()?.trim().parse().ok()?;
        Some(Self {
            // A negative number marks a single-user session.
            pid: Pid::from_raw(pid.checked_abs()?),
            socket_dir: PathBuf::from(lines.get(4).unwrap_or(&"")),
            ready: lines.get(7).is_some_and(|status| status.trim() == "ready"),
        })
    }
}

/// Removes the file if its process is not a PostgreSQL of this cluster: another process that reuses the id, which is
/// likely in containers, where ids are few, or a zombie. PostgreSQL would mistake either for a running server and
/// refuse to start. Without /proc, the file stays.
pub(super) fn remove_if_stale(cluster: &Path) -> std::io::Result<()> {
    let Some(PidFile { pid, .. }) = PidFile::read(cluster) else {
        return Ok(());
    };
    let process = PathBuf::from(format!("/proc/{pid}"));
    let is_stale = match std::fs::read_link(process.join("cwd")) {
        // A server's working folder is its cluster.
        Ok(working_folder) => working_folder != cluster.canonicalize()?,
        Err(error) => error.kind() == ErrorKind::NotFound && process.exists(),
    };
    if is_stale {
        std::fs::remove_file(path(cluster))?;
    }
    Ok(())
}

fn path(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

#[cfg(test)]
mod tests;
