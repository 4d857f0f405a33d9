//! External servers of the tests. A small shell starts each and kills it when standard input ends, which happens when
//! the test process ends: no server outlives the tests, even if these are killed.

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

/// The shell of a server. The server's process id is in the file `pid` of its folder.
pub struct Supervised(Child);

impl Supervised {
    /// Starts a shell with this script, which reads a line of standard input, then kills the server, and unless the
    /// line is `keep` removes its data. `prepare` sets arguments and environment.
    pub fn start(script: &str, prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new("sh");
        prepare(command.args(["-c", script, "sh"]))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("a shell can be started"))
    }

    /// Kills the server like a power cut, and waits for its end. Its data stays.
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

/// Free ports outside the range of outgoing connections, of which the tests make thousands while a server starts.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let free = || {
        let tried = (0..1000).find_map(|_| TcpListener::bind(("0.0.0.0", fastrand::u16(15_000..32_000))).ok());
        tried.expect("there is a free port")
    };
    let listeners = [(); N].map(|()| free());
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
