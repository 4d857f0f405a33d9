//! Parses the command line, runs it, and exits: 0 done, 1 failed, 2 wrong usage.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use reservd::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(7).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("reservd: cannot start its runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reservd: {error}");
            ExitCode::FAILURE
        }
    }
}
