//! `reservd` as a program: the one that is measured, how it is asked about itself, and how it is started.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::Failure;

/// How long a server may take to serve, and to stop.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A `reservd`, and the settings that it is run with.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    settings: Vec<String>,
}

impl Program {
    /// The program of this path.
    pub fn new(path: &Path, settings: Vec<String>) -> Result<Self, Failure> {
        let path = std::path::absolute(path)?;
        if !path.is_file() {
            return Err(format!("there is no {}: `cargo build` makes it", path.display()).into());
        }
        Ok(Self { path, settings })
    }

    /// Its path, for people.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The path of the one that was built together with this program.
    pub fn beside() -> Result<PathBuf, Failure> {
        let ours = std::env::current_exe()?;
        Ok(ours.parent().ok_or("this program is in no folder")?.join("reservd"))
    }

    /// The same program with more settings.
    pub fn with(&self, settings: &[String]) -> Self {
        Self { path: self.path.clone(), settings: [&self.settings, settings].concat() }
    }

    /// Runs it to its end, and returns what it prints.
    pub async fn output(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output =
            Command::new(&self.path).args(arguments).args(&self.settings).stdin(Stdio::null()).output().await?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}: {}", self.name(), arguments.join(" "), why.trim()).into())
    }

    /// Starts a server with these further arguments. What it writes to standard error is passed on.
    pub async fn serve(&self, arguments: &[&str]) -> Result<Server, Failure> {
        let mut child = Command::new(&self.path)
            .arg("serve")
            .args(&self.settings)
            .args(["--listen", "127.0.0.1:0", "--set", "server.metrics_listen="])
            .args(arguments)
            // Ctrl-C is ours to handle.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("the server has no standard error")?).lines();
        let started = timeout(START_LIMIT, async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await? {
                match address_of(&line) {
                    Some(address) => return Ok(address),
                    None => said.push(line),
                }
            }
            Err::<SocketAddr, Failure>(format!("the server did not start: {}", said.join(" | ")).into())
        });
        let address = started.await.map_err(|_| "the server did not start in time")??;
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("server: {line}");
            }
        });
        Ok(Server { address, child })
    }
}

/// The address in the line of the log that says where the server serves.
fn address_of(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").filter(|fields| fields["message"] == "reservd serves")?;
    fields["address"].as_str()?.parse().ok()
}

/// A server in a process of its own. It is killed where it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it serves.
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Its process.
    pub fn process(&self) -> Pid {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        Pid::from_raw(id.expect("only `stop` waits for it"))
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> Result<(), Failure> {
        kill(self.process(), Signal::SIGTERM)?;
        let status = timeout(STOP_LIMIT, self.child.wait()).await.map_err(|_| "the server did not stop in time")??;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}

/// Where to make a folder for a temporary database: on a disk, if there is one that every user may write
/// to. /tmp is in memory on many systems, where no commit would wait for a disk.
pub fn scratch_parent() -> PathBuf {
    Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir)
}
