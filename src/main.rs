//! Parses the command line, runs it, and exits: 0 done, 1 failed, 2 wrong usage.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use reservd::cli::Cli;

/// How many tasks run before sockets are looked at again. With tokio's default of 61, PostgreSQL's
/// answer to a batch would lie there while the callers of the batch before are answered.
const EVENT_INTERVAL: u32 = 7;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(cli.worker_threads()).enable_all().event_interval(EVENT_INTERVAL).build()
    {
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
