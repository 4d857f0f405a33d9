//! What the command line says of itself: docs/CLI.md, completions and man pages.

use std::fs;

use clap::{Command, CommandFactory};
use reservd::cli::Cli;

use crate::support::process::{TempFolder, checkout, run};

/// The width of the help on the page.
const WIDTH: usize = 100;

/// Each command that does something, with the words that call it.
fn commands() -> Vec<(String, Command)> {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut found = Vec::new();
    add_commands(&root, "reservd", &mut found);
    found
}

fn add_commands(parent: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    for command in parent.get_subcommands().filter(|command| command.get_name() != "help") {
        let words = format!("{words} {}", command.get_name());
        if command.has_subcommands() {
            add_commands(command, &words, found);
        } else {
            found.push((words, command.clone()));
        }
    }
}

/// The page: its introduction, and then the help of every command.
fn page(introduction: &str) -> String {
    let mut page = format!("{}\n", introduction.trim_end());
    for (words, mut command) in commands() {
        let help = command.render_help().to_string();
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        page += &format!("\n## {words}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    }
    page
}

/// `WRITE_DOCS=1 cargo test cli_md_has_the_help_of_every_command` writes the page.
#[test]
fn cli_md_has_the_help_of_every_command() {
    let path = checkout("docs/CLI.md");
    let found = fs::read_to_string(&path).expect("the page is there");
    let expected = page(found.split("\n## reservd ").next().unwrap_or_default());
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &expected).expect("the page can be written");
    } else {
        assert!(found == expected, "docs/CLI.md differs from the command line: write it with WRITE_DOCS=1");
    }
}

#[tokio::test]
async fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]).await;
        assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
        for word in ["reservation", "waitlist", "dry-run"] {
            assert!(output.out.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(run(&["completions", "abacus"]).await.code, Some(2));
}

#[tokio::test]
async fn every_command_has_a_man_page() {
    let output = run(&["man"]).await;
    assert!(output.code == Some(0) && output.out.contains(".TH reservd 1"), "{output:?}");
    let folder = TempFolder::new();
    let out = folder.path("man1");
    let output = run(&["man", "--out", &out.display().to_string()]).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
    for (words, _) in commands() {
        let name = format!("{}.1", words.replace(' ', "-"));
        let text = fs::read_to_string(out.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains(".SH SYNOPSIS"), "{name}");
    }
    let output = run(&["man", "--out", "/proc/reservd"]).await;
    assert_eq!((output.code, output.err.lines().count()), (Some(1), 1), "{output:?}");
}

/// `head` ends as soon as it has enough; that is no failure.
#[tokio::test]
async fn output_that_nothing_reads_is_no_failure() {
    let program = env!("CARGO_BIN_EXE_reservd");
    let mut shell = tokio::process::Command::new("bash");
    shell.args(["-c", &format!("{program} completions bash | head -n 1; echo ${{PIPESTATUS[0]}}")]);
    let output = crate::support::process::finish(shell).await;
    assert_eq!((output.out.lines().last(), output.err.as_str()), (Some("0"), ""), "{output:?}");
}
