//! Parses and runs the command line. `reservd --help` and docs/CLI.md list the exit codes.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use reservd::cli::{Cli, Exit};

/// The number of tasks between two polls of the sockets. With tokio's default of 61, PostgreSQL's response to a batch
/// would wait until the responses of the previous batch are sent.
const EVENT_INTERVAL: u32 = 7;

/// With it the server needs a sixth less processor time a call under load than with the system's allocator, and some 30
/// MiB more of memory (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(cli.worker_threads()).enable_all().event_interval(EVENT_INTERVAL).build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("reservd: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.run());
    // A blocking task, such as the lookup of a name, must not delay the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (exit, line) = (Exit::of(&failure), failure.to_string());
            if exit != Exit::NoReader && !line.is_empty() {
                eprintln!("reservd: {line}");
            }
            ExitCode::from(exit.code())
        }
    }
}
