//! The commands for the day, as a person and as a script uses them: real processes, on a real server.

mod documents;
mod events;
mod reservations;
mod secured;
mod unreachable;
mod watching;

use serde_json::Value;

use crate::support::{
    TestServer,
    process::{CommandOutput, run},
};

/// Runs a command on this server.
async fn on(server: &TestServer, arguments: &[&str]) -> CommandOutput {
    run(&[arguments, &["--server", &format!("http://{}", server.app.address)]].concat()).await
}

/// What a command that succeeds prints.
async fn good(server: &TestServer, arguments: &[&str]) -> String {
    let output = on(server, arguments).await;
    assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
    output.out
}

/// The lines of JSON that a command that succeeds prints, and nothing else.
async fn json(server: &TestServer, arguments: &[&str]) -> Vec<Value> {
    let output = on(server, &[arguments, &["--json"]].concat()).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{arguments:?}: {output:?}");
    output.out.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

/// The exit code and the line of a command that fails.
async fn bad(server: &TestServer, arguments: &[&str]) -> (i32, String) {
    let output = on(server, arguments).await;
    assert_eq!(output.out, "", "{arguments:?}: {output:?}");
    let line = output.err.strip_suffix('\n').and_then(|line| line.strip_prefix("reservd: "));
    let line = line.filter(|line| !line.contains('\n')).unwrap_or_else(|| panic!("one line: {output:?}"));
    (output.code.expect("no signal"), line.to_owned())
}
