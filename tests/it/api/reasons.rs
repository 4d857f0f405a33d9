//! Every error reason is described by the API, driven by a test, and documented.

use std::fs;

use crate::support::{error_reasons::REASONS, process::checkout};

fn sources() -> String {
    let (mut folders, mut text) = (vec![checkout("tests")], String::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).expect("a source can be read");
            }
        }
    }
    text
}

#[test]
fn every_reason_is_driven_by_a_test() {
    let sources = sources();
    let is_driven = |name: &str| sources.contains(&format!("\"{name}\""));
    let missing: Vec<_> = REASONS.iter().map(|it| it.name.as_str()).filter(|name| !is_driven(name)).collect();
    assert!(missing.is_empty(), "no test meets these: {missing:?}");
}

/// docs/ERRORS.md, made of its introduction and the enum.
fn errors_md(introduction: &str) -> String {
    let mut page = introduction.to_owned();
    for described in REASONS.iter() {
        if let Some(group) = &described.group {
            page += &format!(
                "\n## {group}\n\n| code | reason | when | metadata | retry |\n| --- | --- | --- | --- | --- |\n"
            );
        }
        let keys: Vec<_> = described.info.metadata.iter().map(|key| format!("`{key}`")).collect();
        let retry = if described.info.retriable { "yes" } else { "" };
        page += &format!(
            "| `{}` | `{}` | {} | {} | {retry} |\n",
            described.info.code,
            described.name,
            described.comment,
            keys.join(", ")
        );
    }
    page
}

/// `WRITE_DOCS=1 cargo test errors_md_is_made_of_the_enum` writes the page.
#[test]
fn errors_md_is_made_of_the_enum() {
    let path = checkout("docs/ERRORS.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let introduction = page.split("\n## ").next().unwrap_or_default();
    let expected = errors_md(introduction);
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &expected).expect("the page can be written");
    } else {
        assert!(page == expected, "docs/ERRORS.md differs from proto/reservd/v1/error_reason.proto");
    }
}
