//! Foreign clients: Python's and Node's, generated from `proto/`, and what works through server reflection. `make
//! test-tools` installs them.

use std::path::PathBuf;

use tokio::process::Command;

use crate::support::{
    TestServer,
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
