//! The shell blocks of the documents.

use std::path::Path;

use super::pages;
use crate::support::{error_reasons::REASONS, process::checkout};

/// A shell block of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The document, below the checkout.
    pub page: String,
    /// The section of the document, to the second level.
    pub section: String,
    /// What a reader copies.
    pub text: String,
}

impl Block {
    /// Whether it starts a server.
    pub fn serves(&self) -> bool {
        self.text.contains("reservd serve")
    }

    /// Whether a line of it begins like this.
    pub fn has_line(&self, start: &str) -> bool {
        self.text.lines().any(|line| line.starts_with(start))
    }

    /// The reasons with which commands of it are refused, in order: each is in the comment right above its command.
    pub fn refusals(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        self.text.lines().filter_map(|line| line.strip_prefix('#')).filter_map(|comment| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let has = |reason: &&str| comment.split(|c: char| !is_part(c)).any(|word| word == *reason);
            REASONS.iter().map(|reason| reason.name.as_str()).find(has)
        })
    }
}

/// All shell blocks of all documents, in order.
pub fn all() -> Vec<Block> {
    pages().iter().flat_map(|(path, text)| of_page(path, text)).collect()
}

fn of_page(path: &Path, text: &str) -> Vec<Block> {
    let page = path.strip_prefix(checkout("")).expect("below the checkout").display().to_string();
    let (mut blocks, mut section, mut open): (_, _, Option<(bool, String)>) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        let line = line.trim_start_matches("  ");
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((["sh", "bash", "console"].contains(&language), String::new())),
            (Some((is_shell, text)), Some(_)) => {
                if *is_shell {
                    blocks.push(Block { page: page.clone(), section: section.clone(), text: std::mem::take(text) });
                }
                open = None;
            }
            (Some((_, text)), None) => text.extend([line, "\n"]),
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut section);
                }
            }
        }
    }
    blocks
}

/// The first block of a document in this language, such as an example file.
pub fn example_file(page: &str, language: &str) -> Option<String> {
    let text = std::fs::read_to_string(checkout(page)).expect("a document can be read");
    let (_, after) = text.split_once(&format!("```{language}\n"))?;
    after.split("```").next().map(str::to_owned)
}

#[test]
fn blocks_are_found_with_their_sections_and_refusals() {
    let text =
        "# P\n```sh\na \\\n  b\n```\n## S\n```rust\nx\n```\n- an item\n  ```console\n  # It is SOLD_OUT:\n  c\n  ```\n";
    let found = of_page(&checkout("P.md"), text);
    let told: Vec<_> = found.iter().map(|it| (it.section.as_str(), it.text.as_str())).collect();
    assert_eq!(told, [("", "a \\\nb\n"), ("S", "# It is SOLD_OUT:\nc\n")]);
    assert_eq!(found[1].refusals().collect::<Vec<_>>(), ["SOLD_OUT"]);
}
