//! The user that PostgreSQL runs as. PostgreSQL refuses to run as root; for root, its processes run as another user,
//! who owns the files that it writes.

use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, getegid, geteuid};

use super::error::EmbeddedError;

/// The users that root may run PostgreSQL as, the first that exists. Not `nobody`: what else runs as that user could
/// read and change the ledger.
const USERS: [&str; 2] = ["postgres", "reservd"];
/// The variables that PostgreSQL's programs and the shell need to find programs, libraries and the time zone.
const ENVIRONMENT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TZ"];

/// The user that owns the cluster and runs its processes.
#[derive(Debug)]
pub(super) struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

pub(super) fn own_home() -> Option<PathBuf> {
    User::from_uid(geteuid()).ok().flatten().map(|user| user.dir)
}

impl Account {
    /// The current user. For root: the wanted user, else the first of [`USERS`] that exists.
    pub(super) fn choose(wanted: Option<&str>) -> Result<Self, EmbeddedError> {
        if !is_root() {
            return Ok(Self { name: "this user".to_owned(), uid: geteuid(), gid: getegid() });
        }
        Self::find(wanted, |name| User::from_name(name).ok().flatten())
    }

    fn find(wanted: Option<&str>, known: impl Fn(&str) -> Option<User>) -> Result<Self, EmbeddedError> {
        let names = wanted.map_or_else(|| USERS.to_vec(), |name| vec![name]);
        match names.iter().find_map(|name| known(name)) {
            Some(user) if !user.uid.is_root() => Ok(Self { name: user.name, uid: user.uid, gid: user.gid }),
            Some(user) => Err(EmbeddedError::NoUser(format!("{} is root too", user.name))),
            None => Err(EmbeddedError::NoUser(format!("there is no user {}", names.join(" or ")))),
        }
    }

    /// A command that runs as this user: in a process group of its own, which Ctrl-C does not reach; outside the
    /// current folder, which the user may not be allowed to enter; and without reservd's environment, which may hold
    /// secrets and settings for other PostgreSQL programs.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").process_group(0).env_clear().env("LC_ALL", "C");
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        if is_root() {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }

    /// Makes the user the owner of a file or folder.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        if is_root() {
            lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
        }
        Ok(())
    }

    /// Checks that the user may enter `path` and all its parents.
    pub(super) fn check_reach(&self, path: &Path) -> Result<(), EmbeddedError> {
        let closed = |folder: &&Path| folder.metadata().is_ok_and(|meta| !self.may_enter(&meta));
        match path.ancestors().find(closed) {
            Some(folder) if is_root() => {
                Err(EmbeddedError::ClosedFolder { user: self.name.clone(), path: folder.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn may_enter(&self, folder: &std::fs::Metadata) -> bool {
        let bit = if folder.uid() == self.uid.as_raw() {
            0o100
        } else if folder.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }
}

#[cfg(test)]
mod tests;
