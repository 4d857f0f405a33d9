//! The user that PostgreSQL runs as. PostgreSQL refuses to run as root; for root, its processes run as another user,
//! who owns the files that it writes.

use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, getegid, geteuid};

use super::error::EmbeddedError;

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
    /// The current user. For root: the wanted user, else `postgres`, else `nobody`.
    pub(super) fn choose(wanted: Option<&str>) -> Result<Self, EmbeddedError> {
        if !is_root() {
            return Ok(Self { name: "this user".to_owned(), uid: geteuid(), gid: getegid() });
        }
        let names = wanted.map_or_else(|| vec!["postgres", "nobody"], |name| vec![name]);
        let known = names.iter().find_map(|name| User::from_name(name).ok().flatten());
        match known {
            Some(user) if !user.uid.is_root() => Ok(Self { name: user.name, uid: user.uid, gid: user.gid }),
            Some(user) => Err(EmbeddedError::NoUser(format!("{} is root too", user.name))),
            None => Err(EmbeddedError::NoUser(format!("there is no user {}", names.join(" or ")))),
        }
    }

    /// A command that runs as this user: in a process group of its own, which Ctrl-C does not reach; outside the
    /// current folder, which the user may not be allowed to enter; and without settings for other PostgreSQL programs.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").process_group(0).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
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
