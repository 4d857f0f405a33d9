//! What lies in the data folder: the cluster, its log, its socket, and two locks that the
//! kernel releases however their holders end. `owner.lock` is held by the reservd that owns
//! the server; `server.lock` by the processes of the server themselves, so whoever gets it
//! knows that nothing of an earlier server is left, without trusting process numbers.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::account::{self, Account};
use super::pid_file::PidFile;
use super::{EmbeddedError, at};

/// Of the file in the socket folder. There is no TCP, so it is nobody else's port.
pub(super) const PORT: u16 = 5432;

/// What a socket's address has room for on Linux; macOS has four bytes less.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

const LOG_LIMIT_BYTES: u64 = 16 << 20;

/// The data folder, by its absolute path.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn create(path: &Path) -> Result<Self, EmbeddedError> {
        let path = std::path::absolute(path).map_err(at("find", path))?;
        // Root keeps locks and log to itself and lets PostgreSQL's user pass through.
        let mode = if account::is_root() { 0o711 } else { 0o700 };
        let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(at("make the folder", &path))?;
        Ok(Self(path))
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    /// Where `initdb` works, so that `cluster` appears at once and whole.
    pub(super) fn partial_cluster(&self) -> PathBuf {
        self.0.join("cluster.partial")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("postgres.log")
    }

    /// The lock that makes us the owner; None where another process has it.
    pub(super) fn try_own(&self) -> Result<Option<OwnerLock>, EmbeddedError> {
        let Some(lock) = try_lock(&self.owner_lock())? else {
            return Ok(None);
        };
        lock.set_len(0)
            .and_then(|()| writeln!(&lock, "{}", std::process::id()))
            .map_err(at("write", &self.owner_lock()))?;
        Ok(Some(OwnerLock(lock)))
    }

    /// The lock to hand to a new server; None while anything of an earlier one lives.
    pub(super) fn try_server_lock(&self) -> Result<Option<File>, EmbeddedError> {
        try_lock(&self.0.join("server.lock"))
    }

    pub(super) fn owner_is_not_ready(&self) -> EmbeddedError {
        EmbeddedError::OwnerNotReady { folder: self.0.clone(), owner: self.owner() }
    }

    /// The socket folder of a server that takes connections and whose owner means to stay.
    pub(super) fn socket_for_guests(&self) -> Option<PathBuf> {
        self.socket_of_running_server().filter(|_| !self.owner().is_empty())
    }

    /// The socket folder of a server that takes connections.
    pub(super) fn socket_of_running_server(&self) -> Option<PathBuf> {
        let file = PidFile::read(&self.cluster()).filter(|file| file.ready)?;
        UnixStream::connect(socket_file(&file.socket_dir)).ok()?;
        Some(file.socket_dir)
    }

    /// The cluster's major version; None where there is no cluster yet.
    pub(super) fn cluster_version(&self) -> Result<Option<String>, EmbeddedError> {
        let file = self.cluster().join("PG_VERSION");
        if !self.cluster().exists() {
            return Ok(None);
        }
        let version = std::fs::read_to_string(&file).map_err(at("read", &file))?;
        Ok(Some(version.trim().to_owned()))
    }

    /// Lets the account through to its folders in here.
    pub(super) fn open_for(&self, account: &Account) -> Result<(), EmbeddedError> {
        let wrong = || at("open up", &self.0);
        let mut permissions = self.0.metadata().map_err(wrong())?.permissions();
        if account::is_root() && permissions.mode() & 0o001 == 0 {
            permissions.set_mode(permissions.mode() | 0o001);
            std::fs::set_permissions(&self.0, permissions).map_err(wrong())?;
        }
        account.check_reach(&self.0)
    }

    /// A folder for the socket: in here where its path is short enough, else in /tmp (the system's
    /// temporary folder may itself have a long name) under a name that nobody can know before.
    pub(super) fn choose_socket_dir(&self) -> PathBuf {
        let here = self.0.join("run");
        if socket_file(&here).as_os_str().as_bytes().len() <= SOCKET_PATH_LIMIT {
            return here;
        }
        PathBuf::from(format!("/tmp/reservd-{:012x}", fastrand::u64(..1 << 48)))
    }

    /// The log, put aside first where it has grown large. Needs the server lock.
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

    /// Makes `initdb`'s finished work the cluster, for good even if the power fails now.
    pub(super) fn adopt_partial_cluster(&self) -> Result<(), EmbeddedError> {
        std::fs::rename(self.partial_cluster(), self.cluster())
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(at("make", &self.cluster()))
    }

    /// The owner's process number; empty where it is about to stop.
    fn owner(&self) -> String {
        let content = std::fs::read_to_string(self.owner_lock()).unwrap_or_default();
        content.trim().to_owned()
    }

    fn owner_lock(&self) -> PathBuf {
        self.0.join("owner.lock")
    }
}

/// Held by the owner of the server, whose process number the file tells.
#[derive(Debug)]
pub(super) struct OwnerLock(File);

impl OwnerLock {
    /// Whoever comes from now on waits for the lock instead of joining a server that ends.
    pub(super) fn turn_guests_away(&self) {
        if let Err(error) = self.0.set_len(0) {
            tracing::warn!(%error, "guests may join a PostgreSQL that is about to stop");
        }
    }
}

/// An empty folder that only the account can enter, whatever was there before.
pub(super) fn make_private_dir(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(at("clear", path))?;
    }
    DirBuilder::new().mode(0o700).create(path).and_then(|()| account.give(path)).map_err(at("make the folder", path))
}

pub(super) fn socket_file(socket_dir: &Path) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{PORT}"))
}

fn try_lock(path: &Path) -> Result<Option<File>, EmbeddedError> {
    // Not truncated: it tells its holder's number. Private: whoever can open it can lock it.
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
mod tests {
    use super::*;

    fn socket_dir_in(path: &str) -> PathBuf {
        Folder(PathBuf::from(path)).choose_socket_dir()
    }

    #[test]
    fn the_socket_lies_with_the_data_where_the_path_is_short() {
        assert_eq!(socket_dir_in("/var/lib/reservd"), Path::new("/var/lib/reservd/run"));
    }

    #[test]
    fn the_socket_s_path_always_fits_its_address() {
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
}
