//! The style that readers rely on: uses point down, files and functions are short, and files say what they are for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each layer may use of the crate. Everything else of the crate is above it.
const ARROWS: [(&str, &[&str]); 12] = [
    ("domain", &["domain"]),
    ("telemetry", &["config", "telemetry"]),
    ("embedded", &["embedded"]),
    ("config", &["domain"]),
    ("store", &["domain", "store"]),
    ("ops", &["config", "domain", "ops", "store", "telemetry"]),
    ("auth", &["auth", "config", "domain", "telemetry"]),
    ("net", &["auth", "config", "net", "telemetry"]),
    ("rpc", &["auth", "config", "domain", "net", "ops", "rpc", "store", "telemetry"]),
    ("broker", &["auth", "broker", "config", "domain", "ops", "rpc"]),
    ("worker", &["config", "ops", "rpc", "telemetry"]),
    ("app", &["auth", "broker", "config", "embedded", "net", "ops", "rpc", "store", "telemetry", "worker"]),
];

/// A longer file is more than one idea.
const MAX_LINES: usize = 400;
/// A longer function does not fit a screen.
const MAX_FUNCTION: usize = 60;

/// Words that have given way to the field's own: docs/GLOSSARY.md has these.
const RETIRED: [&str; 14] = [
    "laid over",
    "the books",
    "trail",
    "fate",
    "presumed",
    "presumption",
    "sweeper",
    "swept",
    "unharmed",
    "left_out",
    "anew",
    "whoever",
    "somebody",
    "under way",
];

fn rust_files(folder: &str) -> Vec<PathBuf> {
    files_below(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &["rs"])
}

fn files_below(folder: PathBuf, endings: &[&str]) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the checkout can be read") {
            let path = entry.expect("so can its entries").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{} has no such files", folder.display());
    files
}

/// The files of the product: those of `src` but for their tests.
fn product_files() -> Vec<PathBuf> {
    let is_test = |path: &PathBuf| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let mut files = rust_files("src");
    files.retain(|path| !is_test(path));
    files
}

/// The source of a file without its tests.
fn product_code(path: &Path) -> String {
    let source = fs::read_to_string(path).expect("a source can be read");
    source.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// A file's path from the root of the checkout.
fn relative(path: &Path) -> &str {
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a file of the checkout");
    path.to_str().expect("plain letters")
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
fn uses_point_down_only() {
    for path in rust_files("src") {
        let layer = layer(&path);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == layer) else {
            assert!(["build", "cli", "lib", "main"].contains(&layer.as_str()), "{} is in no layer", path.display());
            continue;
        };
        let source = fs::read_to_string(&path).expect("a source can be read");
        for used in uses(&source) {
            assert!(allowed.contains(&used.as_str()), "{} uses crate::{used}", path.display());
        }
    }
}

#[test]
fn the_domain_has_no_io() {
    for path in rust_files("src/domain") {
        let source = fs::read_to_string(&path).expect("a source can be read");
        for word in ["async ", "await", "tokio", "sqlx", "tonic", "SystemTime", "Instant", "fastrand", "now_v7"] {
            assert!(!source.contains(word), "{} has {word:?}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut long = Vec::new();
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let source = fs::read_to_string(&path).expect("a source can be read");
        assert!(source.starts_with("//!"), "{} does not say what it is for", path.display());
        if source.lines().count() > MAX_LINES {
            long.push(relative(&path).to_owned());
        }
    }
    long.sort();
    assert_eq!(long, Vec::<String>::new(), "longer than {MAX_LINES} lines");
}

#[test]
fn every_function_is_short() {
    let mut long = Vec::new();
    for path in product_files() {
        for name in long_functions(&product_code(&path)) {
            long.push((relative(&path).to_owned(), name));
        }
    }
    long.sort();
    assert_eq!(long, [], "longer than {MAX_FUNCTION} lines");
}

/// The functions that are too long. A function ends with the brace that is indented as its first line is: rustfmt sees
/// to that.
fn long_functions(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_function = ["fn ", "pub", "async fn ", "const fn "].iter().any(|word| code.starts_with(word));
        let Some((_, rest)) = code.split_once("fn ").filter(|_| is_function) else { continue };
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        // A function of a trait may have none: its signature then ends with a semicolon.
        let signature = lines[start..].iter().find(|line| line.ends_with([';', '{', '}']));
        let has_body = signature.is_some_and(|line| line.ends_with('{'));
        let length = lines[start..].iter().position(|line| *line == end).filter(|_| has_body);
        if length.is_some_and(|length| length >= MAX_FUNCTION) {
            long.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    long
}

/// Within a folder, uses have an order too. A folder is looked at with the modules in it: a file, or a folder with all
/// of its files. Its own `mod.rs` is the parent, which may use all and be used by all.
#[test]
fn no_files_of_a_folder_use_each_other_in_a_circle() {
    let mut folders: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in product_files() {
        for folder in path.ancestors().skip(1).take_while(|folder| **folder != source) {
            folders.entry(folder.to_owned()).or_default().push(path.clone());
        }
    }
    let circular: Vec<_> = folders.iter().filter(|(folder, files)| has_circle(folder, files)).collect();
    let circular: Vec<_> = circular.iter().map(|(folder, _)| relative(folder)).collect();
    assert_eq!(circular, Vec::<&str>::new(), "their files use each other in a circle");
}

fn has_circle(folder: &Path, files: &[PathBuf]) -> bool {
    let module = |path: &Path| {
        let first = path.strip_prefix(folder).expect("in the folder").components().next().expect("a file");
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    let modules: BTreeSet<String> = files.iter().map(|path| module(path)).filter(|name| name != "mod").collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files {
        let own = module(path);
        let used = uses.entry(own.clone()).or_default();
        used.extend(uses_in(folder, path).into_iter().filter(|name| *name != own && modules.contains(name)));
    }
    uses.remove("mod");
    // What uses nothing that is left is below everything that is left; a circle is what can't be taken away like that.
    while let Some(lowest) = uses.iter().find(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()) {
        uses.remove(&lowest);
        uses.values_mut().for_each(|used| used.retain(|name| *name != lowest));
    }
    !uses.is_empty()
}

/// The modules of `folder` that a file in it names, by `super::` or by `crate::`.
fn uses_in(folder: &Path, path: &Path) -> Vec<String> {
    let source = product_code(path);
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let inside = folder.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("a folder of src");
    let from_crate = format!("crate::{}", inside.to_string_lossy().replace('/', "::"));
    // From a file of the folder itself one step leads there, from a folder in it one step more.
    let is_parent = path.file_name().is_some_and(|name| name == "mod.rs");
    let depth = path.strip_prefix(folder).expect("in the folder").components().count() - usize::from(is_parent);
    let from_file = (depth > 0).then(|| vec!["super"; depth].join("::"));
    from_file.iter().chain([&from_crate]).flat_map(|path| paths_after(&code, path)).collect()
}

/// The names that follow a path, in `use path::{a, b::c}` as well as in `path::a`. The path may also be spread over
/// nested braces, as in `use crate::{rpc::{a, b}}`.
fn paths_after(source: &str, path: &str) -> Vec<String> {
    let (first, rest) = path.split_once("::").map_or((path, None), |(first, rest)| (first, Some(rest)));
    let mut found = Vec::new();
    for (start, _) in source.match_indices(first) {
        let before = source[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        if let Some(after) = source[start + first.len()..].strip_prefix("::") {
            found.extend(names(after, rest));
        }
    }
    found
}

/// The names at `path`, where `code` is what follows `::`.
fn names(code: &str, path: Option<&str>) -> Vec<String> {
    let items = code.strip_prefix('{').map_or_else(|| vec![code], top_level_items);
    let mut found = Vec::new();
    for item in items {
        let item = item.trim();
        let name: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match path {
            None => found.push(name),
            Some(path) => {
                let (first, rest) = path.split_once("::").map_or((path, None), |(first, rest)| (first, Some(rest)));
                if name == first
                    && let Some(after) = item[name.len()..].strip_prefix("::")
                {
                    found.extend(names(after, rest));
                }
            }
        }
    }
    found
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

#[test]
fn retired_words_stay_retired() {
    let folder = |name: &str, endings: &[&str]| files_below(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), endings);
    let files = [folder("src", &["rs", "toml"]), folder("proto", &["proto"]), folder("docs", &["md"])].concat();
    let files = [files, folder("migrations", &["sql"]), folder("bench/src", &["rs"])].concat();
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a file can be read").to_lowercase();
        let words = |line: &str| {
            let of_word = |c: char| c.is_alphanumeric() || c == '_';
            RETIRED.iter().any(|word| {
                line.match_indices(word).any(|(start, word)| {
                    let (before, after) = (&line[..start], &line[start + word.len()..]);
                    !before.ends_with(of_word) && !after.starts_with(of_word)
                })
            })
        };
        let lines = text.lines().enumerate().filter(|(_, line)| words(line));
        found.extend(lines.map(|(number, line)| format!("{}:{}: {}", relative(&path), number + 1, line.trim())));
    }
    assert_eq!(found, Vec::<String>::new());
}
