//! The style that readers may rely on: arrows point down, files are small and say what they are for.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each layer may use of the crate. Everything else of it is above.
const ARROWS: [(&str, &[&str]); 11] = [
    ("domain", &["domain"]),
    ("telemetry", &["config", "telemetry"]),
    ("embedded", &["embedded"]),
    ("config", &[]),
    ("store", &["domain", "store"]),
    ("ops", &["config", "domain", "ops", "store", "telemetry"]),
    ("auth", &["auth", "config", "domain", "telemetry"]),
    ("rpc", &["auth", "config", "domain", "ops", "rpc", "store", "telemetry"]),
    ("broker", &["auth", "broker", "config", "domain", "ops", "rpc"]),
    ("worker", &["config", "ops", "rpc", "telemetry"]),
    ("app", &["auth", "broker", "config", "embedded", "ops", "rpc", "store", "telemetry", "worker"]),
];

/// A file longer than this is more than one idea.
const MAX_LINES: usize = 450;

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the checkout can be read") {
            let path = entry.expect("so can its entries").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has no Rust files");
    files
}

fn layer(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("a file of src");
    let first = inside.components().next().expect("not src itself").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules of the crate that a file names, in `use crate::{...}` as well as in paths.
fn uses(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in source.match_indices("crate::") {
        let rest = &source[start + "crate::".len()..];
        let list = rest.strip_prefix('{').map_or_else(|| vec![rest], top_level_items);
        for item in list {
            let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push(name);
        }
    }
    found.retain(|name| !name.is_empty() && !name.ends_with("_columns"));
    found
}

/// The items of `{a, b::{c, d}, e}`, after the opening brace.
fn top_level_items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (place, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[start..place]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn arrows_point_down_only() {
    for path in rust_files("src") {
        let layer = layer(&path);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == layer) else {
            assert!(["cli", "lib", "main"].contains(&layer.as_str()), "{} is in no layer", path.display());
            continue;
        };
        let source = fs::read_to_string(&path).expect("a source can be read");
        for used in uses(&source) {
            assert!(allowed.contains(&used.as_str()), "{} uses crate::{used}", path.display());
        }
    }
}

#[test]
fn the_domain_knows_no_io() {
    for path in rust_files("src/domain") {
        let source = fs::read_to_string(&path).expect("a source can be read");
        for word in ["async ", "await", "tokio", "sqlx", "tonic", "SystemTime", "Instant", "fastrand", "now_v7"] {
            assert!(!source.contains(word), "{} has {word:?}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_one_idea() {
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let source = fs::read_to_string(&path).expect("a source can be read");
        assert!(source.starts_with("//!"), "{} does not say what it is for", path.display());
        let lines = source.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_statement_is_named() {
    for path in rust_files("src/store") {
        let source = fs::read_to_string(&path).expect("a source can be read");
        for (start, _) in source.match_indices("SELECT ") {
            let before = &source[..start];
            let literal = before.rfind('"').map_or("", |quote| &before[quote..]);
            let named = literal.contains("-- ") || before.rfind("-- ") > before.rfind(";\n");
            assert!(named, "{}: a statement without a name", path.display());
        }
    }
}

/// A plan that was made while a table was empty reads all of an index for its first entry, and lives on
/// while the table grows; with ORDER BY and LIMIT it can't.
#[test]
fn the_ends_of_indexes_are_read_by_limit() {
    for path in rust_files("src/store") {
        let source = fs::read_to_string(&path).expect("a source can be read");
        for (start, _) in source.match_indices("SELECT min(").chain(source.match_indices("SELECT max(")) {
            let statement = &source[start..source.len().min(start + 120)];
            let reads_a_table = ["events", "reservations", "changes", "waitlist"]
                .iter()
                .any(|table| statement.contains(&format!("FROM {table} ")));
            assert!(!reads_a_table, "{}: {statement}", path.display());
        }
    }
}
