//! The commit that a build is made of. Without git, as from an archive, the build goes on without it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A commit, and the files that change when there is another.
#[derive(Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id, shortened.
    pub id: String,
    /// The files. Only those that exist: cargo builds again each time for one that does not.
    pub files: Vec<PathBuf>,
}

/// The commit of the sources in `root`: of an archive that git made, or of a checkout.
pub fn commit(root: &Path) -> Option<Commit> {
    archived(root).or_else(|| checked_out(root))
}

/// git writes the commit into this file of an archive (.gitattributes).
fn archived(root: &Path) -> Option<Commit> {
    let file = root.join(".git_archival.txt");
    let id = shortened(fs::read_to_string(&file).ok()?.trim())?;
    Some(Commit { id, files: vec![file] })
}

fn checked_out(root: &Path) -> Option<Commit> {
    // Not of a repository around a folder of sources.
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let id = shortened(&git(root, &["rev-parse", "HEAD"])?)?;
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let files = names.filter_map(|name| git(root, &["rev-parse", "--git-path", name])).map(|file| root.join(file));
    Some(Commit { id, files: files.filter(|file| file.exists()).collect() })
}

fn shortened(id: &str) -> Option<String> {
    let is_id = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id[..12].to_owned())
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}
