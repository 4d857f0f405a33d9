//! The dependencies of the program: the offline part of `make deny`, by the same deny.toml.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::process::Command;

use crate::support::process::finish;

/// The packages that the program is built from on this system, according to `cargo metadata`. The packages of other
/// systems may be missing.
async fn packages() -> Vec<Value> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV");
    let output = finish(rustc).await;
    let host = output.out.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc tells the host");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform", host]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = finish(cargo).await;
    assert_eq!(output.code, Some(0), "{}", output.err);
    let metadata: Value = serde_json::from_str(&output.out).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// All packages of the lock file, for every system.
fn locked() -> Vec<toml::Value> {
    let lock: toml::Table = include_str!("../../Cargo.lock").parse().expect("TOML");
    lock["package"].as_array().expect("packages").clone()
}

fn rules() -> toml::Table {
    include_str!("../../deny.toml").parse().expect("TOML")
}

fn strings(list: &toml::Value) -> BTreeSet<&str> {
    list.as_array().expect("a list").iter().map(|item| item.as_str().expect("text")).collect()
}

/// Whether the allowed licences satisfy an SPDX expression.
fn is_met(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    let depth_zero = |separator: &str| {
        let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
        for (place, character) in expression.char_indices() {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ if depth == 0 && expression[place..].starts_with(separator) => {
                    parts.push(&expression[start..place]);
                    start = place + separator.len();
                }
                _ => {}
            }
        }
        parts.push(&expression[start..]);
        parts.into_iter().map(str::trim).collect::<Vec<_>>()
    };
    let (any, all) = (depth_zero(" OR "), depth_zero(" AND "));
    if any.len() > 1 {
        any.iter().any(|part| is_met(part, allowed))
    } else if all.len() > 1 {
        all.iter().all(|part| is_met(part, allowed))
    } else {
        let one = expression.trim();
        match one.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
            Some(inner) => is_met(inner, allowed),
            None => allowed.contains(one),
        }
    }
}

#[tokio::test]
async fn crates_come_from_one_registry_under_licences_that_are_allowed_and_none_is_banned() {
    let rules = rules();
    let allowed = strings(&rules["licenses"]["allow"]);
    let sources: BTreeSet<_> =
        locked().iter().filter_map(|package| package.get("source")?.as_str().map(str::to_owned)).collect();
    assert!(sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
    let banned: BTreeSet<_> =
        rules["bans"]["deny"].as_array().expect("a list").iter().filter_map(|ban| ban["crate"].as_str()).collect();
    let locked = locked();
    assert!(locked.len() > 100 && banned.len() > 3, "there is something to check");
    for package in &locked {
        let name = package["name"].as_str().expect("a name");
        assert!(!banned.contains(name), "{name} is banned");
    }
    for only in ["tonic", "rustls", "ring", "tokio"] {
        let versions = locked.iter().filter(|package| package["name"].as_str() == Some(only)).count();
        assert_eq!(versions, 1, "{only} is there in {versions} versions");
    }
    for package in packages().await.iter().filter(|package| !package["source"].is_null()) {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_met(licence, &allowed), "{} is under {licence}", package["name"]);
    }
}

/// The crates that these members of the workspace are built of, each with its features.
async fn built_of(members: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges=normal,build", "--prefix=none", "--format={p} {f}"]);
    cargo.args(members.iter().flat_map(|member| ["--package", member])).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = finish(cargo).await;
    assert_eq!(output.code, Some(0), "{}", output.err);
    output.out.lines().map(|line| line.trim_end_matches(" (*)").trim_end().to_owned()).collect()
}

/// `make demo` after `make run` compiles only what is the demo's own, and so do `make bench` and `make attacks`.
#[tokio::test]
async fn no_member_of_the_workspace_needs_the_programs_crates_with_other_features() {
    let program = built_of(&["reservd"]).await;
    assert!(program.len() > 100, "{program:?}");
    for member in ["reservd-demo", "reservd-bench"] {
        let both = built_of(&["reservd", member]).await;
        let again: Vec<_> = program.difference(&both).collect();
        assert!(again.is_empty(), "with {member} these are compiled again, with other features: {again:?}");
    }
}

#[test]
fn licences_are_read_as_they_are_written() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
    for good in
        ["MIT", "MIT OR GPL-3.0", "MIT/GPL-3.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "GPL-3.0 OR (MIT AND Apache-2.0)"]
    {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "none"] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}
