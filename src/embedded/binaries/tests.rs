//! Tests of the choice of binaries.

use super::*;

fn installed(versions: &[&str]) -> Vec<Binaries> {
    let parse = |text: &&str| Version::parse(&format!("postgres (PostgreSQL) {text}"));
    let binaries = |version| Binaries { folder: PathBuf::from("/pg"), version };
    versions.iter().filter_map(parse).map(binaries).collect()
}

fn chosen(versions: &[&str], cluster: Option<&str>) -> Result<String, Missing> {
    choose(&installed(versions), cluster).map(|it| it.version.to_string())
}

#[test]
fn versions_of_every_packager_are_parsed() {
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
    assert_eq!(chosen(&["17.2"], Some("15")), Err(Missing::Major("15".to_owned())));
}

#[test]
fn unsupported_versions_do_not_count() {
    assert_eq!(chosen(&["13.20", "9.6"], None), Err(Missing::Any));
    assert_eq!(chosen(&[], Some("15")), Err(Missing::Any));
}
