//! The files, settings and metrics that the documents name exist, and the commands work.

mod blocks;
mod shell;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::process::checkout;

/// Every document of the checkout, by path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let top = fs::read_dir(checkout("")).expect("a checkout").map(|entry| entry.expect("readable").path());
    let below = files(&["docs", "deploy", "examples"]).into_iter().map(|path| checkout(&path[1..]));
    let mut pages: Vec<_> = top.chain(below).filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    pages.sort();
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).expect("a page can be read"));
    pages.into_iter().filter(|path| !path.ends_with("CHANGELOG.md")).map(read).collect()
}

/// Every file of these folders, below the checkout, with `/` first.
fn files(folders: &[&str]) -> Vec<String> {
    let (root, mut folders) = (checkout(""), folders.iter().map(|folder| checkout(folder)).collect::<Vec<_>>());
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the checkout can be read") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(format!("/{}", path.strip_prefix(&root).expect("below the checkout").display()));
            }
        }
    }
    files
}

/// The text between backquotes in prose and tables.
fn code_spans(markdown: &str) -> Vec<&str> {
    let prose = markdown.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_link_has_a_target() {
    for (page, text) in pages() {
        let folder = page.parent().expect("a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let is_there = path.is_empty() || path.starts_with("https://") || folder.join(path).exists();
            assert!(is_there, "{}: {link}", page.display());
        }
    }
}

#[test]
fn the_files_that_the_map_names_exist() {
    let files = files(&["src", "tests", "migrations", "proto", "bench", "fuzz", "examples"]);
    let exists = |name: &str| {
        files.iter().any(|file| file.ends_with(&format!("/{name}")) || file.contains(&format!("/{name}/")))
    };
    let glossary = fs::read_to_string(checkout("docs/GLOSSARY.md")).expect("there is a glossary");
    let rows = glossary.lines().filter(|line| line.starts_with("| ")).skip(2);
    for name in rows.filter_map(|row| row.split(" | ").last()).flat_map(|cell| cell.trim_end_matches(" |").split(", "))
    {
        assert!(exists(name.trim_end_matches('/')), "docs/GLOSSARY.md: {name}");
    }
    let map = fs::read_to_string(checkout("docs/ARCHITECTURE.md")).expect("there is a map");
    for name in code_spans(&map) {
        let is_path = name.ends_with('/') || [".rs", ".sql"].iter().any(|end| name.ends_with(end));
        assert!(!is_path || exists(name.trim_end_matches('/')), "docs/ARCHITECTURE.md: {name}");
    }
}

#[test]
fn settings_and_metrics_have_the_names_that_the_documents_use() {
    let defaults = fs::read_to_string(checkout("src/defaults.toml")).expect("there are defaults");
    let settings: toml::Table = defaults.parse().expect("TOML");
    let metrics = fs::read_to_string(checkout("src/telemetry/metrics.rs")).expect("there are metrics");
    for (page, text) in pages() {
        for span in code_spans(&text) {
            let name: String = span.chars().take_while(|c| c.is_ascii_lowercase() || "._".contains(*c)).collect();
            // RabbitMQ's routing keys look the same.
            let is_routing_key = page.ends_with("BROKER.md") && name.starts_with("waitlist.");
            if !is_routing_key
                && let Some((section, key)) = name.split_once('.')
                && let Some(section) = settings.get(section).and_then(toml::Value::as_table)
                && Path::new(&name).extension().is_none_or(|extension| extension != "rs")
            {
                assert!(section.contains_key(key), "{}: {name} is no setting", page.display());
            }
            let is_metric = name.starts_with("reservd_") && !["reservd_owner", "reservd_app"].contains(&name.as_str());
            assert!(!is_metric || metrics.contains(&name), "{}: {name} is no metric", page.display());
        }
    }
}
