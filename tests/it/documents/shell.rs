//! Every shell block of every document is run as a reader pastes it: all of it, into one shell for the blocks that
//! belong together, in an empty folder, on a database of its own.

use std::{ffi::OsString, path::PathBuf, process::Stdio};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use prost::Message;
use tokio::{io::AsyncWriteExt, process::Command};
use tonic_types::pb::ErrorInfo;

use super::blocks::{self, Block};
use crate::support::{
    TestDatabase, TestRedis, TestServer,
    process::{CommandOutput, TempFolder, checkout, program},
    reserve, soon,
    supervised::free_ports,
};

/// The blocks that no test can paste: the document, how a line of the block begins, and why.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("deploy/README.md", "sudo install", "installs a service; tests/it/deploy.rs checks the unit"),
    ("docs/CLI.md", "$ export RESERVD_ADDRESS=https://reservd.example", "another host"),
    (
        "docs/CLIENTS.md",
        "pip install grpcio grpcio-tools grpcio-status",
        "downloads; tests/it/clients.rs generates too",
    ),
    ("docs/SECURITY.md", "> ACL SETUSER reservd on", "is typed to Redis, with a password of yours"),
    (
        "docs/SECURITY.md",
        "$ psql --dbname=reservd --set=ON_ERROR_STOP=1 --file=deploy/roles.sql",
        "another host, and passwords of yours; tests/it/security/roles.rs runs the files",
    ),
    (
        "examples/order-service/README.md",
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
        "downloads; tests/it/broker/shop.rs runs the shop",
    ),
];

/// What runs before the blocks: it notes every command that fails, and at the end stops what runs in the background.
const PRELUDE: &str = r#"
trap 'echo "$BASH_COMMAND" >>"$FAILED"' ERR
trap 'trap - ERR; kill $(jobs -p) 2>/dev/null; wait' EXIT
"#;

/// A reader goes on when the server says that it serves.
const WAIT_UNTIL_SERVED: &str = r#"
until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do kill -0 $! || exit 9; sleep 0.05; done
"#;

/// Blocks for one shell.
struct Session {
    blocks: Vec<Block>,
    folder: TempFolder,
}

/// A section that starts a server has a shell of its own; all other blocks of a page share one.
fn sessions() -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let all = blocks::all();
    let serves =
        |page: &str, section: &str| all.iter().any(|it| it.page == page && it.section == section && it.serves());
    for block in all.iter().filter(|block| reason_not_to_run(block).is_none()) {
        let is_alone = serves(&block.page, &block.section);
        let joins = |session: &&mut Session| {
            let first = &session.blocks[0];
            first.page == block.page
                && if is_alone { first.section == block.section } else { !serves(&first.page, &first.section) }
        };
        match sessions.iter_mut().find(joins) {
            Some(session) => session.blocks.push(block.clone()),
            None => sessions.push(Session { blocks: vec![block.clone()], folder: TempFolder::new() }),
        }
    }
    sessions
}

fn reason_not_to_run(block: &Block) -> Option<&'static str> {
    let listed = NOT_RUN.iter().find(|(page, line, _)| *page == block.page && block.has_line(line));
    listed.map(|(_, _, reason)| *reason)
}

#[test]
fn each_block_that_is_not_run_is_there() {
    let all = blocks::all();
    for (page, line, _) in NOT_RUN {
        assert!(all.iter().any(|block| block.page == *page && block.has_line(line)), "{page} has no block with {line}");
    }
}

#[tokio::test]
async fn every_shell_block_of_every_document_works_as_it_is_pasted() {
    let sessions = sessions();
    assert!(sessions.len() >= 8, "there are documents");
    for session in sessions {
        session.run().await;
    }
}

impl Session {
    fn page(&self) -> &str {
        &self.blocks[0].page
    }

    async fn run(self) {
        if self.blocks.iter().any(Block::serves) {
            let (database, [port]) = (TestDatabase::new().await, free_ports());
            let output = self.paste(&database.url, port).await;
            if self.page() == "docs/SECURITY.md" {
                assert!(output.out.contains("RESERVATION_STATE_HELD"), "{output:?}");
            }
        } else {
            let server = TestServer::start().await;
            self.prepare(&server).await;
            self.paste(&server.database.url, server.app.address.port()).await;
            server.check_and_stop().await;
        }
    }

    /// Makes what a page presupposes: events that others have used, and the file that it shows.
    async fn prepare(&self, server: &TestServer) {
        if ["docs/FEED.md", "docs/CLIENTS.md", "docs/OPERATIONS.md"].contains(&self.page()) {
            server.event("matinee", 5).await;
            server.event("concert", 40).await;
            for place in 0..20 {
                let request = reserve("concert", &format!("user-{place}"));
                server.reservations().reserve(request).await.expect("there is room");
            }
        }
        if let Some(csv) = blocks::example_file(self.page(), "csv") {
            self.folder.file("events.csv", csv);
        }
    }

    /// Pastes the blocks, and checks that those commands fail that have to, for the reason that the document gives.
    async fn paste(&self, database_url: &str, port: u16) -> CommandOutput {
        let redis = TestRedis::new().await;
        let place =
            |text: &str| text.replace(":50051", &format!(":{port}")).replace("redis://127.0.0.1:6379", &redis.url);
        let after = |block: &Block| if block.serves() { WAIT_UNTIL_SERVED } else { "" };
        let pasted: Vec<_> = self.blocks.iter().map(|block| place(&block.text) + after(block)).collect();
        let output = self.shell(database_url, port, &redis, &format!("{PRELUDE}{}", pasted.concat())).await;

        let noted = |name: &str| std::fs::read_to_string(self.folder.path(name)).unwrap_or_default();
        let refusals: Vec<_> = self.blocks.iter().flat_map(Block::refusals).collect();
        let failed = noted("failed");
        assert_eq!(failed.lines().count(), refusals.len(), "{}: {failed}\n{output:?}", self.page());
        assert_eq!(reasons(&noted("call-errors")), refusals, "{}: {output:?}", self.page());
        output
    }

    /// Runs a script with the program, and with what stands for `grpcurl` and `make`, in the path.
    async fn shell(&self, database_url: &str, port: u16, redis: &TestRedis, script: &str) -> CommandOutput {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_reservd"));
        let tools = [checkout("tests/clients/bin"), ours.parent().expect("a folder").to_owned()];
        let path = std::env::join_paths(
            tools.into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        // Whatever happens, it ends everything that the blocks have started.
        let mut shell = Command::new("timeout");
        shell.args(["80", "bash"]);
        shell.env_clear().envs(without_settings()).env("PATH", path.expect("a path")).current_dir(self.folder.path(""));
        shell.env("BUF", checkout(".tools/node/node_modules/.bin/buf")).env("BUF_CACHE_DIR", self.folder.path("buf"));
        shell.env("FAILED", self.folder.path("failed")).env("CALL_ERRORS", self.folder.path("call-errors"));
        shell.env("CHECKOUT", checkout("")).env("PORT", port.to_string()).env("DATABASE_URL", database_url);
        shell.env("RESERVD_SERVER__LISTEN", format!("127.0.0.1:{port}")).env("RESERVD_SERVER__METRICS_LISTEN", "");
        shell.env("RESERVD_ADDRESS", format!("http://127.0.0.1:{port}")).env("RESERVD_SESSIONS__PREFIX", &redis.prefix);
        // An empty database, to restore a backup into.
        shell.env("RESTORED_URL", TestDatabase::unmigrated().await.url);
        paste_into(shell, script).await
    }
}

/// The environment without the variables that are settings.
fn without_settings() -> Vec<(OsString, OsString)> {
    let program = program::<&str>([]);
    let removed: Vec<_> =
        program.as_std().get_envs().filter(|(_, value)| value.is_none()).map(|(key, _)| key).collect();
    std::env::vars_os().filter(|(key, _)| !removed.contains(&key.as_os_str())).collect()
}

/// Gives a shell its commands as a terminal does.
async fn paste_into(mut shell: Command, script: &str) -> CommandOutput {
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn().expect("there is a shell");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let script = script.to_owned();
    let typing = tokio::spawn(async move { stdin.write_all(script.as_bytes()).await });
    let output = soon("the shell ends", child.wait_with_output()).await.expect("it can be waited for");
    typing.await.expect("it runs").expect("the shell reads all of it");
    output.into()
}

/// The reasons in the errors that buf has printed, one JSON value each.
fn reasons(errors: &str) -> Vec<String> {
    serde_json::Deserializer::from_str(errors)
        .into_iter::<serde_json::Value>()
        .map(|error| {
            let error = error.unwrap_or_else(|_| panic!("no JSON: {errors}"));
            let details = error["details"].as_array().expect("an error has details");
            let info =
                details.iter().find(|detail| detail["type"] == "google.rpc.ErrorInfo").expect("one is ErrorInfo");
            let encoded = BASE64_STANDARD_NO_PAD.decode(info["value"].as_str().expect("base64")).expect("base64");
            ErrorInfo::decode(encoded.as_slice()).expect("an ErrorInfo").reason
        })
        .collect()
}
