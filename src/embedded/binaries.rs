//! Finds the PostgreSQL programs of this machine: in the configured folder, or else on PATH and in the folders of
//! packages. Chooses the newest version, or the version of the data folder. Downloads nothing: the error explains how
//! to install PostgreSQL.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::EmbeddedError;
use super::folder::Folder;
use super::install_advice;

/// Older versions are out of support.
const OLDEST_MAJOR: u32 = 14;

/// The folders of packages: a parent, the prefix of a name in it, and a subfolder.
const PACKAGED: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    folder: PathBuf,
    version: Version,
}

impl Binaries {
    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub(super) fn version(&self) -> &Version {
        &self.version
    }
}

/// The version 15.18 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    fn parse(version_line: &str) -> Option<Self> {
        let number = version_line.split_once("(PostgreSQL)")?.1.trim_start();
        let mut parts = number.split(|c: char| !c.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().and_then(|part| part.parse().ok());
        Some(Self { major, minor: minor.unwrap_or(0) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The binaries to run: of the cluster's major version, or else the newest.
pub(super) fn find(
    setting: Option<&Path>,
    cluster_version: Option<&str>,
    folder: &Folder,
    account: &Account,
) -> Result<Binaries, EmbeddedError> {
    let places = match setting {
        Some(bin_dir) => vec![bin_dir.to_owned()],
        None => usual_places(std::env::var_os("PATH")),
    };
    let found: Vec<Binaries> = places.iter().filter_map(|place| inspect(place, account)).collect();
    choose(&found, cluster_version).map_err(|missing| match missing {
        Missing::Any => none_found(setting),
        Missing::Major(made_by) => {
            EmbeddedError::OtherVersion { cluster: folder.cluster(), made_by, found: list(&found) }
        }
    })
}

/// Why there is no choice.
#[derive(Debug, PartialEq, Eq)]
enum Missing {
    Any,
    Major(String),
}

fn choose(found: &[Binaries], cluster_version: Option<&str>) -> Result<Binaries, Missing> {
    let usable = found.iter().filter(|it| it.version.major >= OLDEST_MAJOR);
    let newest = usable.clone().max_by_key(|it| it.version).ok_or(Missing::Any)?;
    let Some(major) = cluster_version else {
        return Ok(newest.clone());
    };
    usable
        .filter(|it| it.version.major.to_string() == major)
        .max_by_key(|it| it.version)
        .cloned()
        .ok_or_else(|| Missing::Major(major.to_owned()))
}

fn usual_places(path: Option<OsString>) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = path.iter().flat_map(std::env::split_paths).collect();
    for (parent, prefix, below) in PACKAGED {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let matching = entries.filter(|it| it.file_name().to_string_lossy().starts_with(prefix));
        places.extend(matching.map(|it| it.path().join(below)));
    }
    places
}

/// The installation whose `postgres`, or a link to it, is in this folder. Runs as the account, so that programs that
/// it may not execute do not count.
fn inspect(place: &Path, account: &Account) -> Option<Binaries> {
    let postgres = place.join("postgres").canonicalize().ok()?;
    let folder = postgres.parent()?.to_owned();
    if !folder.join("initdb").is_file() {
        return None;
    }
    let answer = account.command(&postgres).arg("--version").output().ok()?;
    let version = Version::parse(&String::from_utf8_lossy(&answer.stdout))?;
    Some(Binaries { folder, version })
}

fn list(found: &[Binaries]) -> String {
    let mut versions: Vec<Version> = found.iter().map(|it| it.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let texts: Vec<String> = versions.iter().map(Version::to_string).collect();
    texts.join(", ")
}

fn none_found(setting: Option<&Path>) -> EmbeddedError {
    let looked_in = setting.map_or_else(
        || {
            let packaged = PACKAGED.map(|(parent, prefix, below)| format!("{parent}/{prefix}*/{below}"));
            format!("PATH, {}", packaged.join(", "))
        },
        |bin_dir| format!("{}, as set", bin_dir.display()),
    );
    EmbeddedError::NoBinaries { oldest: OLDEST_MAJOR, looked_in, advice: install_advice::how_to_install() }
}

#[cfg(test)]
mod tests;
