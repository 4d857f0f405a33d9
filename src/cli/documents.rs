//! What is generated from the command line itself: completions for shells, and man pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, failure::Failure, output::print};

/// The options of `reservd completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
bash:  reservd completions bash >/etc/bash_completion.d/reservd
zsh:   reservd completions zsh >\"${fpath[1]}/_reservd\"
fish:  reservd completions fish >~/.config/fish/completions/reservd.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// The options of `reservd man`.
#[derive(Debug, Args)]
#[command(after_help = "Read it at once with `reservd man | man -l -`.")]
pub struct Man {
    /// Write a page for each command into this folder instead
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "reservd", &mut script);
        print(String::from_utf8(script)?)
    }
}

impl Man {
    /// Prints the page, or writes them all.
    pub fn run(self) -> Result<(), Failure> {
        let Some(folder) = &self.out else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            return print(String::from_utf8(page)?);
        };
        let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
        Ok(written.map_err(|error| format!("cannot write to {}: {error}", folder.display()))?)
    }
}
