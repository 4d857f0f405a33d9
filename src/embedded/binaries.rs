//! Finds the PostgreSQL programs of this machine: where a setting says, else on PATH and in
//! the places where packages put them. The newest wins, unless the data folder asks for an
//! older one. Nothing is downloaded: where there is none, the error tells how to install it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::folder::Folder;
use super::{EmbeddedError, advice};

/// Older ones are out of support.
const OLDEST_MAJOR: u32 = 14;

/// A parent folder, the beginning of a name in it, and what follows below.
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

/// As in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`: 15 and 18.
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

/// The binaries to run: those of the cluster's major version, else the newest.
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
    choose(&found, cluster_version).map_err(|lack| match lack {
        Lack::Any => none_found(setting),
        Lack::Major(made_by) => EmbeddedError::OtherVersion { cluster: folder.cluster(), made_by, found: list(&found) },
    })
}

/// What kept us from choosing.
#[derive(Debug, PartialEq, Eq)]
enum Lack {
    Any,
    Major(String),
}

fn choose(found: &[Binaries], cluster_version: Option<&str>) -> Result<Binaries, Lack> {
    let usable = found.iter().filter(|it| it.version.major >= OLDEST_MAJOR);
    let newest = usable.clone().max_by_key(|it| it.version).ok_or(Lack::Any)?;
    let Some(major) = cluster_version else {
        return Ok(newest.clone());
    };
    usable
        .filter(|it| it.version.major.to_string() == major)
        .max_by_key(|it| it.version)
        .cloned()
        .ok_or_else(|| Lack::Major(major.to_owned()))
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

/// The installation whose `postgres` is in this folder, perhaps as a link to elsewhere.
/// Asked as the user who shall run it, so that what is closed to him does not count.
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
    EmbeddedError::NoBinaries { oldest: OLDEST_MAJOR, looked_in, advice: advice::how_to_install() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(versions: &[&str]) -> Vec<Binaries> {
        let parse = |text: &&str| Version::parse(&format!("postgres (PostgreSQL) {text}"));
        let binaries = |version| Binaries { folder: PathBuf::from("/pg"), version };
        versions.iter().filter_map(parse).map(binaries).collect()
    }

    fn chosen(versions: &[&str], cluster: Option<&str>) -> Result<String, Lack> {
        choose(&installed(versions), cluster).map(|it| it.version.to_string())
    }

    #[test]
    fn versions_are_read_from_every_packager_s_line() {
        let version = |line| Version::parse(line).map(|it| it.to_string());
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(version(debian).as_deref(), Some("15.18"));
        assert_eq!(version("postgres (PostgreSQL) 18beta1").as_deref(), Some("18.0"));
        assert_eq!(version("postgres (PostgreSQL) 17.2").as_deref(), Some("17.2"));
        assert_eq!(version("postgres: command not found"), None);
        assert_eq!(version("postgres (PostgreSQL) devel"), None);
    }

    #[test]
    fn the_newest_is_chosen_by_number_not_by_text() {
        assert_eq!(chosen(&["9.6", "15.9", "15.18", "14.2"], None), Ok("15.18".to_owned()));
    }

    #[test]
    fn the_clusters_own_version_wins_over_a_newer_one() {
        assert_eq!(chosen(&["17.2", "15.18"], Some("15")), Ok("15.18".to_owned()));
        assert_eq!(chosen(&["17.2"], Some("15")), Err(Lack::Major("15".to_owned())));
    }

    #[test]
    fn out_of_support_is_as_good_as_none() {
        assert_eq!(chosen(&["13.20", "9.6"], None), Err(Lack::Any));
        assert_eq!(chosen(&[], Some("15")), Err(Lack::Any));
    }
}
