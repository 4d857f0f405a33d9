//! The program as a child process: `reservd serve` on a free port, and other commands.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reservd::rpc::pb::{
    event_service_client::EventServiceClient, reservation_service_client::ReservationServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
};
use tonic::transport::Channel;

use super::soon;

/// A folder that is removed after the test.
pub struct TempFolder(PathBuf);

impl TempFolder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("reservd-process-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).expect("a temporary folder can be made");
        Self(path)
    }

    /// A path in here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in here.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).expect("a temporary file can be written");
        self.path(name).display().to_string()
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program, without the environment variables that are settings.
pub fn program<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reservd"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["RESERVD_", "DATABASE_URL", "REDIS_URL", "OTEL_", "PG"].iter().any(|ours| name.starts_with(ours)) {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program that `make test-tools` installs.
pub fn tool(path: &str) -> Command {
    let path = checkout(".tools").join(path);
    assert!(path.exists(), "{} is missing: run `make test-tools`", path.display());
    let mut command = Command::new(path);
    command.kill_on_drop(true);
    command
}

/// The fields of a line of the log, if it has this message.
pub fn logged(line: &str, message: &str) -> Option<serde_json::Value> {
    let mut line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line["fields"].take();
    (fields["message"] == message).then_some(fields)
}

/// The output and the exit code of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs a command and waits for its end.
pub async fn finish(mut command: Command) -> CommandOutput {
    soon("the command ends", command.output()).await.expect("the command can be started").into()
}

/// Runs the program and waits for its end.
pub async fn run(arguments: &[&str]) -> CommandOutput {
    finish(program(arguments)).await
}

/// A server in a process of its own.
pub struct Process {
    pub address: SocketAddr,
    child: Child,
    /// The log until it served.
    log: Vec<String>,
    /// The log after that, until it ends.
    rest: JoinHandle<Vec<String>>,
}

impl Process {
    /// On an embedded PostgreSQL in this folder.
    pub async fn embedded(data_dir: &Path, settings: &[&str]) -> Self {
        let mut command = serve(settings);
        command.arg("--data-dir").arg(data_dir);
        Self::start(command).await
    }

    /// On an existing database.
    pub async fn on(database_url: &str, settings: &[&str]) -> Self {
        let mut command = serve(settings);
        command.env("DATABASE_URL", database_url);
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program can be started");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let mut lines = BufReader::new(stderr).lines();
        let mut log = Vec::new();
        let address = loop {
            let line = soon("the server serves", lines.next_line()).await.expect("the program prints text");
            let line = line.unwrap_or_else(|| panic!("the server ended: {log:?}"));
            let served = logged(&line, "reservd serves").and_then(|fields| fields["address"].as_str()?.parse().ok());
            log.push(line);
            if let Some(address) = served {
                break address;
            }
        };
        // Keeps reading: a full pipe would block the server.
        let rest = tokio::spawn(async move {
            let mut rest = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                rest.push(line);
            }
            rest
        });
        Self { address, child, log, rest }
    }

    /// A new connection.
    pub async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(self.url()).expect("a valid URL");
        endpoint.connect().await.expect("a connection to the server")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address of its metrics, from its log.
    pub fn metrics_address(&self) -> SocketAddr {
        let logged = self.log.iter().find_map(|line| logged(line, "reservd serves")).expect("it is logged");
        logged["metrics_address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut scrape = TcpStream::connect(self.metrics_address()).await.expect("metrics are served");
        scrape.write_all(SCRAPE).await.expect("a request");
        let mut metrics = String::new();
        scrape.read_to_string(&mut metrics).await.expect("they are text");
        metrics
    }

    /// The log until it served.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("the server runs").cast_signed())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the server can be signalled");
    }

    /// Kills it, and waits for its end.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the server can be killed");
    }

    /// Waits for its end, and returns its exit code and the log since it served.
    pub async fn ends(mut self) -> (Option<i32>, Vec<String>) {
        let status = soon("the server ends", self.child.wait()).await.expect("it can be waited for");
        (status.code(), soon("its log ends", self.rest).await.expect("it was read"))
    }

    /// Waits for a successful exit, and returns the log since it served.
    pub async fn ends_well(self) -> Vec<String> {
        let (code, log) = self.ends().await;
        assert_eq!(code, Some(0), "{log:?}");
        log
    }

    /// Sends SIGTERM, and waits for its end.
    pub async fn stop(self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        self.ends_well().await
    }
}

/// Clients on a connection.
pub fn clients(channel: &Channel) -> (EventServiceClient<Channel>, ReservationServiceClient<Channel>) {
    (EventServiceClient::new(channel.clone()), ReservationServiceClient::new(channel.clone()))
}

fn serve(settings: &[&str]) -> Command {
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--set", "server.metrics_listen=127.0.0.1:0"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

/// The process of the embedded PostgreSQL in this folder; none before its start.
pub fn postmaster(data_dir: &Path) -> Option<Pid> {
    let file = std::fs::read_to_string(data_dir.join("cluster/postmaster.pid")).ok()?;
    file.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// Whether the embedded PostgreSQL in this folder has ended completely.
pub fn is_at_rest(data_dir: &Path) -> bool {
    let lock = File::options().write(true).open(data_dir.join("server.lock")).expect("a server has run here");
    lock.try_lock().is_ok()
}
