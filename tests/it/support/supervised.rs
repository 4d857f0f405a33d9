//! Servers that run beside the tests. Each is started by a small shell that ends it when standard input
//! ends, which it does with the process that holds its other end: so none outlives the tests, however
//! these end.

use std::{net::TcpListener, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use super::process::TempFolder;

/// A server, and the shell that ends it. Its process id is in the file `pid` of its folder.
pub struct Supervised(Child);

impl Supervised {
    /// Starts a shell on this script, which reads a line of standard input, then ends the server, and
    /// unless the line is `keep` removes its data. `prepare` gives it arguments and environment.
    pub fn start(script: &str, prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new("sh");
        prepare(command.args(["-c", script, "sh"]))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("a shell can be started"))
    }

    /// Kills the server as a power cut does, and waits until it is gone. Its data stays.
    pub async fn kill(self, folder: &TempFolder) {
        let Self(mut shell) = self;
        kill(pid(folder), Signal::SIGKILL).expect("it can be killed");
        let mut stdin = shell.stdin.take().expect("standard input is a pipe");
        stdin.write_all(b"keep\n").await.expect("its supervisor listens");
        shell.wait().await.expect("its supervisor ends");
    }
}

/// The process of the server in this folder.
pub fn pid(folder: &TempFolder) -> Pid {
    let pid = std::fs::read_to_string(folder.path("pid")).expect("its process id is written");
    Pid::from_raw(pid.trim().parse().expect("a number"))
}

/// Ports that nobody listens on. They are none of those that systems give to outgoing connections, of which
/// the tests make thousands while a server is still starting.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let free = || {
        let tried = (0..1000).find_map(|_| TcpListener::bind(("0.0.0.0", fastrand::u16(15_000..32_000))).ok());
        tried.expect("there is a free port")
    };
    let listeners = [(); N].map(|()| free());
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
