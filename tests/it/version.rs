//! `reservd --version` has the commit of a release.

#[path = "../../src/build/commit.rs"]
mod commit;

use std::{path::Path, process::Command};

use crate::support::process::{TempFolder, checkout, run};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(arguments);
    let output = command.output().expect("git is there");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[tokio::test]
async fn the_version_is_one_line_with_the_commit_of_a_release() {
    let output = run(&["--version"]).await;
    let kind = output.out.strip_prefix(&format!("reservd {} (", env!("CARGO_PKG_VERSION")));
    let kind = kind.and_then(|rest| rest.strip_suffix(")\n")).unwrap_or_else(|| panic!("{output:?}"));
    assert!(kind == "development build" || kind.bytes().all(|byte| byte.is_ascii_hexdigit()), "{output:?}");
}

#[test]
fn the_commit_is_that_of_the_checkout_and_its_files_change_with_it() {
    let folder = TempFolder::new();
    let root = folder.path("");
    git(&root, &["init", "--quiet"]);
    assert_eq!(commit::commit(&root), None, "it has no commit yet");
    git(&root, &["commit", "--quiet", "--allow-empty", "--message", "x"]);
    let found = commit::commit(&root).expect("it has one");
    assert_eq!(found.id, git(&root, &["rev-parse", "--short=12", "HEAD"]));
    let head = git(&root, &["rev-parse", "HEAD"]);
    let names_it = |file: &std::path::PathBuf| std::fs::read_to_string(file).is_ok_and(|text| text.contains(&head));
    assert!(found.files.iter().any(names_it), "no file to watch names the commit: {found:?}");
    assert!(found.files.iter().all(|file| file.exists()), "{found:?}");

    let inside = folder.path("sources");
    std::fs::create_dir(&inside).expect("made");
    assert_eq!(commit::commit(&inside), None, "the repository around a folder is another");
}

#[test]
fn an_archive_has_its_commit_and_a_folder_without_git_has_none() {
    let folder = TempFolder::new();
    assert_eq!(commit::commit(&folder.path("")), None);
    folder.file(".git_archival.txt", "$Format:%H$\n");
    assert_eq!(commit::commit(&folder.path("")), None, "not written by git");
    folder.file(".git_archival.txt", "0123456789abcdef0123456789abcdef01234567\n");
    assert_eq!(commit::commit(&folder.path("")).map(|commit| commit.id).as_deref(), Some("0123456789ab"));
    let attributes = std::fs::read_to_string(checkout(".gitattributes")).expect("there");
    assert!(attributes.lines().any(|line| line == ".git_archival.txt export-subst"), "{attributes}");
}
