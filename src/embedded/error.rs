//! What can keep the private PostgreSQL from running. Each message is one line that a person
//! can act on: what was looked for or tried, where, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why the private PostgreSQL could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No usable PostgreSQL on this machine.
    #[error(
        "no PostgreSQL {oldest} or newer found: looked for `postgres` with `initdb` beside it in {looked_in}; {advice}, or set DATABASE_URL"
    )]
    NoBinaries {
        /// The oldest major version that will do.
        oldest: u32,
        /// The places that were searched.
        looked_in: String,
        /// How to install it on this system.
        advice: String,
    },

    /// The data folder belongs to another major version than all binaries found.
    #[error(
        "{} was made by PostgreSQL {made_by}, and only {found} is installed: install PostgreSQL {made_by}, or move the folder away to start empty", cluster.display()
    )]
    OtherVersion {
        /// The cluster's folder.
        cluster: PathBuf,
        /// Its major version.
        made_by: String,
        /// What is installed.
        found: String,
    },

    /// The user to run PostgreSQL as does not exist, or is root.
    #[error("PostgreSQL refuses to run as root: {0}; name an ordinary user of this machine")]
    NoUser(String),

    /// The user that PostgreSQL runs as cannot enter a folder on the way to its data.
    #[error(
        "user {user} cannot enter {}, which leads to PostgreSQL's data folder: choose a data folder outside of it", path.display()
    )]
    ClosedFolder {
        /// The user that PostgreSQL runs as.
        user: String,
        /// The closed folder.
        path: PathBuf,
    },

    /// A file or folder could not be read, made or changed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A program could not be started at all.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// `initdb` failed, or did not end in time.
    #[error("initdb could not make a cluster in {} ({outcome}): {said}", cluster.display())]
    InitDb {
        /// Where.
        cluster: PathBuf,
        /// How it ended.
        outcome: Outcome,
        /// The last lines it wrote.
        said: String,
    },

    /// `postgres` ended instead of becoming ready, or did neither in time.
    #[error("PostgreSQL did not start ({outcome}): {said} (all of it in {})", log.display())]
    NotStarted {
        /// How it ended.
        outcome: Outcome,
        /// The last lines of its log.
        said: String,
        /// The log.
        log: PathBuf,
    },

    /// The server of an earlier run does not go away.
    #[error(
        "an earlier PostgreSQL{} still runs in {}: stop it with kill -INT", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), cluster.display()
    )]
    OldServer {
        /// Its process, where known.
        pid: Option<i32>,
        /// The folder that it holds.
        cluster: PathBuf,
    },

    /// Another process owns the folder, but its server does not become ready.
    #[error("{} is in use by process {owner}, whose PostgreSQL does not become ready", folder.display())]
    OwnerNotReady {
        /// The data folder.
        folder: PathBuf,
        /// The owner's process id, as it wrote it down.
        owner: String,
    },

    /// The server runs, but the database does not answer.
    #[error("the embedded PostgreSQL in {} does not answer: {source}", socket_dir.display())]
    Connect {
        /// The socket folder.
        socket_dir: PathBuf,
        /// Why not.
        source: sqlx::Error,
    },

    /// The server did not end in time.
    #[error("the embedded PostgreSQL did not stop within {seconds} s")]
    NotStopped {
        /// How long we waited.
        seconds: u64,
    },

    /// A bug of ours.
    #[error("the embedded PostgreSQL's starter failed: {0}")]
    Internal(String),
}

/// How a program ended, or that it did not.
#[derive(Debug, Clone, Copy)]
pub struct Outcome(pub Option<ExitStatus>);

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(status) => write!(f, "{status}"),
            None => f.write_str("not done in time"),
        }
    }
}
