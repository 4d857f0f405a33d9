//! The layout of the data folder: the cluster, its log, its socket, and two locks that the kernel releases however
//! their holders end. The reservd that owns the server holds `owner.lock`; the processes of the server hold
//! `server.lock`, so the process that acquires it knows that no process of an earlier server is left, without
//! trusting process ids.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::account::{self, Account};
use super::error::{EmbeddedError, at};
use super::pid_file::PidFile;

/// The port in the name of the socket. There is no TCP, so it cannot conflict.
pub(super) const PORT: u16 = 5432;

/// The longest path of a socket on Linux; four bytes less on macOS.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

const LOG_LIMIT_BYTES: u64 = 16 << 20;

/// The data folder, by its absolute path.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn create(path: &Path) -> Result<Self, EmbeddedError> {
        let path = std::path::absolute(path).map_err(at("find", path))?;
        // For root, PostgreSQL's user may pass through but not read the locks and the log.
        let mode = if account::is_root() { 0o711 } else { 0o700 };
        let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(at("create the folder", &path))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    /// The folder for `initdb`, so that `cluster` appears atomically.
    pub(super) fn partial_cluster(&self) -> PathBuf {
        self.0.join("cluster.partial")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("postgres.log")
    }

    /// The lock of the owner; none if another process holds it.
    pub(super) fn try_own(&self) -> Result<Option<OwnerLock>, EmbeddedError> {
        let Some(lock) = try_lock(&self.owner_lock())? else {
            return Ok(None);
        };
        lock.set_len(0)
            .and_then(|()| writeln!(&lock, "{}", std::process::id()))
            .map_err(at("write", &self.owner_lock()))?;
        Ok(Some(OwnerLock(lock)))
    }

    /// The lock for a new server; none while a process of an earlier server lives.
    pub(super) fn try_server_lock(&self) -> Result<Option<File>, EmbeddedError> {
        try_lock(&self.0.join("server.lock"))
    }

    pub(super) fn owner_is_not_ready(&self) -> EmbeddedError {
        EmbeddedError::OwnerNotReady { folder: self.0.clone(), owner: self.owner() }
    }

    /// The socket folder of a server that accepts connections, unless its owner is about to stop.
    pub(super) fn socket_for_guests(&self) -> Option<PathBuf> {
        self.socket_of_running_server().filter(|_| !self.owner().is_empty())
    }

    /// The socket folder of a server that accepts connections.
    pub(super) fn socket_of_running_server(&self) -> Option<PathBuf> {
        let file = PidFile::read(&self.cluster()).filter(|file| file.ready)?;
        UnixStream::connect(socket_file(&file.socket_dir)).ok()?;
        Some(file.socket_dir)
    }

    /// The cluster's major version; none if there is no cluster yet.
    pub(super) fn cluster_version(&self) -> Result<Option<String>, EmbeddedError> {
        let file = self.cluster().join("PG_VERSION");
        if !self.cluster().exists() {
            return Ok(None);
        }
        let version = std::fs::read_to_string(&file).map_err(at("read", &file))?;
        Ok(Some(version.trim().to_owned()))
    }

    /// Allows the account to enter its folders in here.
    pub(super) fn open_for(&self, account: &Account) -> Result<(), EmbeddedError> {
        let wrong = || at("change the permissions of", &self.0);
        let mut permissions = self.0.metadata().map_err(wrong())?.permissions();
        if account::is_root() && permissions.mode() & 0o001 == 0 {
            permissions.set_mode(permissions.mode() | 0o001);
            std::fs::set_permissions(&self.0, permissions).map_err(wrong())?;
        }
        account.check_reach(&self.0)
    }

    /// A folder for the socket: in here if its path is short enough, else in /tmp under an unpredictable name. (The
    /// path of the system's temporary folder may be long.)
    pub(super) fn choose_socket_dir(&self) -> PathBuf {
        let here = self.0.join("run");
        if socket_file(&here).as_os_str().as_bytes().len() <= SOCKET_PATH_LIMIT {
            return here;
        }
        PathBuf::from(format!("/tmp/reservd-{:012x}", fastrand::u64(..1 << 48)))
    }

    /// The log, rotated first if it is large. Requires the server lock.
    pub(super) fn open_log(&self) -> Result<File, EmbeddedError> {
        let log = self.log();
        if log.metadata().is_ok_and(|it| it.len() > LOG_LIMIT_BYTES) {
            let previous = log.with_extension("log.1");
            std::fs::rename(&log, &previous).map_err(at("rename", &log))?;
        }
        let mut options = OpenOptions::new();
        let opened = options.create(true).append(true).mode(0o600).open(&log);
        opened.map_err(at("open", &log))
    }

    /// Moves the finished work of `initdb` into place, durably.
    pub(super) fn adopt_partial_cluster(&self) -> Result<(), EmbeddedError> {
        std::fs::rename(self.partial_cluster(), self.cluster())
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(at("create", &self.cluster()))
    }

    /// The owner's process id; empty if it is about to stop.
    pub(super) fn owner(&self) -> String {
        let content = std::fs::read_to_string(self.owner_lock()).unwrap_or_default();
        content.trim().to_owned()
    }

    fn owner_lock(&self) -> PathBuf {
        self.0.join("owner.lock")
    }
}

/// Held by the owner of the server. The file has its process id.
#[derive(Debug)]
pub(super) struct OwnerLock(File);

impl OwnerLock {
    /// From now on other processes wait for the lock instead of joining a server that stops.
    pub(super) fn turn_guests_away(&self) {
        if let Err(error) = self.0.set_len(0) {
            tracing::warn!(%error, "cannot mark PostgreSQL as stopping: guests may still join it");
        }
    }
}

/// Creates an empty folder that only the account can enter. Removes an earlier one.
pub(super) fn make_private_dir(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(at("clear", path))?;
    }
    DirBuilder::new().mode(0o700).create(path).and_then(|()| account.give(path)).map_err(at("create the folder", path))
}

pub(super) fn socket_file(socket_dir: &Path) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{PORT}"))
}

fn try_lock(path: &Path) -> Result<Option<File>, EmbeddedError> {
    // Not truncated: it has the process id of its holder. Private: a process that can open it can lock it.
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(false).mode(0o600);
    let opened = options.open(path);
    let file = opened.map_err(at("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(at("lock", path)(source)),
    }
}

#[cfg(test)]
mod tests;
