//! Why the private PostgreSQL does not run. Each message is one line that a user can act on: what failed, where, and
//! what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why the private PostgreSQL cannot be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// This machine has no usable PostgreSQL.
    #[error(
        "no PostgreSQL {oldest} or newer found: looked for `postgres` with `initdb` beside it in {looked_in}; {advice}, or set DATABASE_URL"
    )]
    NoBinaries {
        /// The oldest supported major version.
        oldest: u32,
        /// The searched places.
        looked_in: String,
        /// How to install it on this system.
        advice: String,
    },

    /// No installed PostgreSQL has the major version of the data folder.
    #[error(
        "{} was created by PostgreSQL {made_by}, and only {found} is installed: install PostgreSQL {made_by}, or move the folder away to start empty", cluster.display()
    )]
    OtherVersion {
        /// The cluster's folder.
        cluster: PathBuf,
        /// Its major version.
        made_by: String,
        /// The installed versions.
        found: String,
    },

    /// The user to run PostgreSQL as does not exist, or is root.
    #[error(
        "PostgreSQL refuses to run as root: {0}; make one with `useradd --system reservd`, or name another with embedded.os_user"
    )]
    NoUser(String),

    /// The user that PostgreSQL runs as cannot enter a parent of its data folder.
    #[error(
        "user {user} cannot enter {}, a parent of PostgreSQL's data folder: choose a data folder outside of it", path.display()
    )]
    ClosedFolder {
        /// The user that PostgreSQL runs as.
        user: String,
        /// The closed folder.
        path: PathBuf,
    },

    /// A file or folder cannot be read, created or changed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The failed action.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// A program cannot be started.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// `initdb` failed or took too long.
    #[error("initdb could not create a cluster in {} ({outcome}): {output}", cluster.display())]
    InitDb {
        /// The folder of the cluster.
        cluster: PathBuf,
        /// How it ended.
        outcome: Outcome,
        /// The last lines of its output.
        output: String,
    },

    /// `postgres` ended before it was ready, or took too long.
    #[error("PostgreSQL did not start ({outcome}): {output} (see {})", log.display())]
    NotStarted {
        /// How it ended.
        outcome: Outcome,
        /// The last lines of its log.
        output: String,
        /// The log file.
        log: PathBuf,
    },

    /// The server of an earlier run does not stop.
    #[error(
        "an earlier PostgreSQL{} still runs in {}: stop it with kill -INT", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), cluster.display()
    )]
    OldServer {
        /// Its process id, if known.
        pid: Option<i32>,
        /// The folder of its cluster.
        cluster: PathBuf,
    },

    /// Another process owns the folder, but its server does not become ready.
    #[error("{} is in use by process {owner}, whose PostgreSQL does not become ready", folder.display())]
    OwnerNotReady {
        /// The data folder.
        folder: PathBuf,
        /// The owner's process id from the lock file.
        owner: String,
    },

    /// The server runs, but the database does not accept a connection.
    #[error("the embedded PostgreSQL in {} does not accept connections: {source}", socket_dir.display())]
    Connect {
        /// The socket folder.
        socket_dir: PathBuf,
        /// The cause.
        source: sqlx::Error,
    },

    /// The server did not stop in time.
    #[error("the embedded PostgreSQL did not stop within {seconds} s")]
    NotStopped {
        /// The time that it had.
        seconds: u64,
    },

    /// A bug in reservd.
    #[error("cannot start or watch the embedded PostgreSQL: {0}")]
    Internal(String),
}

/// The exit status of a program; none if it did not end in time.
#[derive(Debug, Clone, Copy)]
pub struct Outcome(pub Option<ExitStatus>);

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(status) => write!(f, "{status}"),
            None => f.write_str("timed out"),
        }
    }
}

/// Adds the file to an I/O error, which does not name it.
pub(super) fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> EmbeddedError + 'a {
    move |source| EmbeddedError::File { action, path: path.to_owned(), source }
}
