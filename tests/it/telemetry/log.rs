//! The log of a server whose standard error is no terminal.

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{
    eventually,
    process::{Process, TempFolder, finish, logged, postmaster, program},
};

/// The lines of a log, each of which must be JSON.
fn lines(log: &[String]) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    log.iter().map(parse).collect()
}

#[tokio::test]
async fn every_line_is_json_and_its_values_are_plain() {
    let folder = TempFolder::new();
    let (data_dir, keys) = (folder.path("data"), folder.path("keys").display().to_string());
    let token = finish(program(["token", "--admin", "root", "--keys", &keys])).await.out;
    let jwks = format!("auth.jwks={keys}/jwks.json");
    let server = Process::embedded(&data_dir, &[&jwks, "auth.issuer=reservd-dev"]).await;
    let list = async |token: &str| {
        let mut command = program(["event", "list", "--server", &server.url()]);
        command.env("RESERVD_TOKEN", token);
        finish(command).await
    };
    assert_eq!(list("canary").await.code, Some(1));
    let first = postmaster(&data_dir).expect("PostgreSQL runs");
    kill(first, Signal::SIGKILL).expect("it can be killed");
    eventually("PostgreSQL is back", async || list(&token).await.code == Some(0)).await;
    let mut log = server.log().to_vec();
    log.extend(server.stop().await);

    let lines = lines(&log);
    for line in &lines {
        for (name, value) in line["fields"].as_object().expect("fields") {
            let text = value.as_str().unwrap_or_default();
            for debug in ["Some(", "Ok(", "Err(", "None", "ExitStatus", " { ", "canary"] {
                assert!(!text.contains(debug), "{name} is {text}");
            }
        }
    }
    let denied = log.iter().find_map(|line| logged(line, "denied a call")).expect("it is logged");
    assert_eq!((denied["reason"].as_str(), denied["problem"].as_str()), (Some("TOKEN_INVALID"), Some("SHAPE")));
    assert!(log.iter().any(|line| logged(line, "PostgreSQL ended unexpectedly; restarting it").is_some()), "{log:?}");
}

#[tokio::test]
async fn a_failure_to_start_is_a_line_of_the_log() {
    let mut command = program(["serve", "--set", "server.metrics_listen=", "--listen", "127.0.0.1:0"]);
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/x").env("RESERVD_DATABASE__CONNECT_TIMEOUT", "0s");
    let output = finish(command).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let log: Vec<_> = output.err.lines().map(str::to_owned).collect();
    assert_eq!(lines(&log).last().map(|line| &line["level"]), Some(&Value::from("ERROR")));
}
