//! Foreign clients: Python's and Node's, generated from `proto/`, and the commands of the documentation through server
//! reflection. `make test-tools` installs them.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use prost::Message;
use tokio::process::Command;
use tonic_types::pb::ErrorInfo;

use crate::support::{
    TestServer,
    error_reasons::REASONS,
    process::{CommandOutput, TempFolder, checkout, finish, tool},
};

/// Python with a script, the address that it is to call, and stubs that protoc makes in `folder`.
pub async fn python(folder: &TempFolder, script: &str, address: &str) -> Command {
    let stubs = folder.path("stubs");
    std::fs::create_dir(&stubs).expect("made");
    let mut protoc = tool("python/bin/python");
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(checkout("proto"));
    for kind in ["--python_out", "--grpc_python_out"] {
        protoc.arg(format!("{kind}={}", stubs.display()));
    }
    protoc.args(protocol());
    assert_went_well(&finish(protoc).await);
    let mut command = tool("python/bin/python");
    command.arg(checkout("tests/clients/python").join(script)).arg(address).arg(stubs);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The files of the protocol.
fn protocol() -> Vec<PathBuf> {
    let folders = ["proto/reservd/v1", "proto/reservd/diagnostics/v1alpha1"];
    let files = folders.map(|folder| std::fs::read_dir(checkout(folder)).expect("the protocol is there"));
    files.into_iter().flatten().map(|file| file.expect("readable").path()).collect()
}

fn node(address: &str) -> Command {
    assert!(checkout(".tools/node/node_modules").exists(), "run `make test-tools`");
    let mut walk = Command::new("node");
    walk.arg(checkout("tests/clients/node/walk.js")).arg(address).arg(checkout("proto")).kill_on_drop(true);
    walk
}

fn assert_went_well(output: &CommandOutput) {
    assert_eq!(output.code, Some(0), "\n{}\n{}", output.out, output.err);
}

fn assert_walked(output: &CommandOutput) {
    assert_went_well(output);
    assert!(output.out.ends_with("all is well\n"), "{}", output.out);
}

/// Runs a client against an event whose row another transaction keeps locked.
async fn meet_a_locked_row(server: TestServer, mut walk: Command) {
    server.event("locked", 5).await;
    let row = server.hold_row("locked").await;
    walk.args(["deadline", "locked"]);
    assert_walked(&finish(walk).await);
    row.release().await;
    assert_eq!(
        server.get_event("locked").await.counts.unwrap_or_default().held,
        0,
        "a call whose time was over had an effect"
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_python_client_goes_through_the_walk() {
    let (server, folder) = (TestServer::start().await, TempFolder::new());
    assert_walked(&finish(python(&folder, "walk.py", &server.app.address.to_string()).await).await);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_python_client_gets_its_deadlines_right() {
    let (server, folder) = (TestServer::with(&[("server.default_deadline", "500ms")]).await, TempFolder::new());
    let walk = python(&folder, "walk.py", &server.app.address.to_string()).await;
    meet_a_locked_row(server, walk).await;
}

/// protoc has the generators of these languages.
#[tokio::test]
async fn code_can_be_generated_for_every_language_of_protoc() {
    let folder = TempFolder::new();
    for (language, ending) in
        [("cpp", "pb.h"), ("csharp", "cs"), ("java", "java"), ("objc", "h"), ("php", "php"), ("ruby", "rb")]
    {
        let out = folder.path(language);
        std::fs::create_dir(&out).expect("made");
        let mut protoc = Command::new("protoc");
        protoc.arg("-I").arg(checkout("proto")).kill_on_drop(true);
        protoc.arg(format!("--{language}_out={}", out.display())).args(protocol());
        assert_went_well(&finish(protoc).await);
        assert!(contains_ending(&out, ending), "{language}");
    }
}

fn contains_ending(folder: &std::path::Path, ending: &str) -> bool {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).any(|path| {
        if path.is_dir() { contains_ending(&path, ending) } else { path.to_string_lossy().ends_with(ending) }
    })
}

/// TypeScript's generator, as buf runs it, and its compiler over what that makes.
#[tokio::test]
async fn code_that_is_generated_for_typescript_compiles() {
    let folder = TempFolder::new();
    let bin = checkout(".tools/node/node_modules/.bin");
    let template = format!(
        "version: v2\nplugins:\n  - local: {}\n    out: {}\n    opt: target=ts\n",
        bin.join("protoc-gen-es").display(),
        folder.path("gen").display()
    );
    let mut generate = tool("node/node_modules/.bin/buf");
    generate.arg("generate").arg(checkout("proto")).args(["--template", &folder.file("buf.gen.yaml", template)]);
    generate.env("BUF_CACHE_DIR", folder.path("buf"));
    assert_went_well(&finish(generate).await);
    std::os::unix::fs::symlink(checkout(".tools/node/node_modules"), folder.path("node_modules")).expect("linked");
    let config = r#"{"compilerOptions": {"strict": true, "noEmit": true, "module": "nodenext", "target": "es2022", "skipLibCheck": true}, "include": ["gen"]}"#;
    folder.file("tsconfig.json", config);
    let mut compile = tool("node/node_modules/.bin/tsc");
    compile.arg("--project").arg(folder.path("tsconfig.json"));
    assert_went_well(&finish(compile).await);
}

#[tokio::test]
async fn a_node_client_goes_through_the_walk() {
    let server = TestServer::start().await;
    assert_walked(&finish(node(&server.app.address.to_string())).await);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_node_client_gets_its_deadlines_right() {
    let server = TestServer::with(&[("server.default_deadline", "500ms")]).await;
    let walk = node(&server.app.address.to_string());
    meet_a_locked_row(server, walk).await;
}

/// `buf curl`, which speaks gRPC and learns the protocol by reflection, as grpcurl does.
async fn buf(folder: &TempFolder, arguments: &[&str]) -> CommandOutput {
    let mut command = tool("node/node_modules/.bin/buf");
    command.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"]).args(arguments);
    command.env("BUF_CACHE_DIR", folder.path("buf"));
    finish(command).await
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let (server, folder) = (TestServer::start().await, TempFolder::new());
    let url = format!("http://{}", server.app.address);
    for version in ["grpc-v1", "grpc-v1alpha"] {
        let output = buf(&folder, &["--reflect-protocol", version, "--list-services", &url]).await;
        assert_went_well(&output);
        for service in ["v1.EventService", "v1.FeedService", "diagnostics.v1alpha1.DiagnosticsService"] {
            assert!(output.out.lines().any(|line| line == format!("reservd.{service}")), "{}", output.out);
        }
        assert!(output.out.contains("grpc.health.v1.Health"), "{}", output.out);
    }
    server.check_and_stop().await;
}

/// A command of a page, as a reader pastes it into a shell.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    /// The reason with which it must fail: it is in the comment on the line above.
    reason: Option<&'static str>,
}

/// The commands of all shell blocks, in order.
fn examples(markdown: &str) -> Vec<Example> {
    let blocks = markdown.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let (mut found, mut reason) = (Vec::new(), None);
    let mut lines = blocks.flat_map(str::lines);
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix('#') {
            let has = |reason: &&str| comment.split(|c: char| !is_in_reason(c)).any(|word| word == *reason);
            reason = REASONS.iter().map(|reason| reason.name.as_str()).find(has);
        } else if !line.trim().is_empty() {
            let mut command = line.to_owned();
            while command.ends_with('\\') {
                command = format!("{command}\n{}", lines.next().expect("the command goes on"));
            }
            found.push(Example { command, reason: reason.take() });
        }
    }
    found
}

fn is_in_reason(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Runs a command in a shell, against the server at `address`. `make` there only checks that it has the target.
async fn paste(folder: &TempFolder, command: &str, address: &str) -> CommandOutput {
    let bin = checkout("tests/clients/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell.args(["-c", &command.replace("127.0.0.1:50051", address)]).kill_on_drop(true);
    shell.env("PATH", format!("{}:{path}", bin.display())).env("BUF_CACHE_DIR", folder.path("buf"));
    shell.env("BUF", checkout(".tools/node/node_modules/.bin/buf"));
    finish(shell).await
}

/// The reason in the error that buf prints.
fn reason(error: &str) -> String {
    let error: serde_json::Value = serde_json::from_str(error).unwrap_or_else(|_| panic!("no JSON: {error}"));
    let details = error["details"].as_array().expect("an error has details");
    let info = details.iter().find(|detail| detail["type"] == "google.rpc.ErrorInfo").expect("one is ErrorInfo");
    let encoded = BASE64_STANDARD_NO_PAD.decode(info["value"].as_str().expect("base64")).expect("base64");
    ErrorInfo::decode(encoded.as_slice()).expect("an ErrorInfo").reason
}

#[tokio::test]
async fn the_commands_of_the_documentation_do_what_it_says() {
    for page in ["README.md", "docs/STRATEGIES.md", "docs/WAITLIST.md"] {
        try_the_commands_of(page).await;
    }
}

async fn try_the_commands_of(page: &str) {
    let (server, folder) = (TestServer::start().await, TempFolder::new());
    let examples = examples(&read(page));
    assert!(examples.len() >= 4, "{page} has no walk: {examples:?}");
    for example in examples {
        let output = paste(&folder, &example.command, &server.app.address.to_string()).await;
        match example.reason {
            None => assert_eq!(output.code, Some(0), "{example:?}: {output:?}"),
            Some(expected) => {
                assert_ne!(output.code, Some(0), "{example:?}: {output:?}");
                assert_eq!(reason(&output.err), expected, "{example:?}");
            }
        }
    }
    server.check_and_stop().await;
}

fn read(page: &str) -> String {
    std::fs::read_to_string(checkout(page)).unwrap_or_else(|_| panic!("there is no {page}"))
}

#[test]
fn examples_are_found_with_what_they_must_do() {
    let markdown = "# SOLD_OUT\ngrpcurl not code\n```sh\n# three places: SOLD_OUT\ngrpcurl -d '{\"a\": \"b c\"}' \\\n  \
                    host:1 x.Y/Z\ngrpcurl host:1 x.Y/W # no reason: SOLD_OUT\n```\n";
    let found = examples(markdown);
    let told: Vec<_> = found.iter().map(|it| (it.command.as_str(), it.reason)).collect();
    let refused = "grpcurl -d '{\"a\": \"b c\"}' \\\n  host:1 x.Y/Z";
    assert_eq!(told, [(refused, Some("SOLD_OUT")), ("grpcurl host:1 x.Y/W # no reason: SOLD_OUT", None)]);
}
