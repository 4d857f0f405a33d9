//! Restarts and stops the server. A thread waits for the server's process and restarts it if it dies, on the same
//! socket, so that pools only have to reconnect. It is a thread and not a task, so that a server that tests share
//! outlives the runtime of the test that starts it.

use std::path::Path;
use std::process::{Child, ChildStdin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::account::Account;
use super::binaries;
use super::error::EmbeddedError;
use super::folder::{Folder, OwnerLock};
use super::options::EmbeddedOptions;
use super::server::{Launcher, Server};

/// The fast shutdown writes a checkpoint of up to `shared_buffers`, perhaps to a slow disk.
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(30);
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that ran this long restarts at once, another one after a pause.
const STABLE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The owner's handle of the running server. Dropping it stops the server.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    launcher: Launcher,
    /// Held until the server has ended and the supervisor is dropped.
    owner_lock: OwnerLock,
    state: Mutex<State>,
    stop_requested: Condvar,
}

#[derive(Debug)]
struct State {
    /// The dead man's switch of the running server.
    switch: Option<ChildStdin>,
    stopping: bool,
}

impl Supervisor {
    /// Starts the server of the folder, with its socket in `socket_dir`, and supervises it.
    pub(super) fn start(
        folder: &Folder,
        socket_dir: &Path,
        options: &EmbeddedOptions,
        owner_lock: OwnerLock,
        deadline: Instant,
    ) -> Result<Self, EmbeddedError> {
        let account = Account::choose(options.os_user.as_deref())?;
        folder.open_for(&account)?;
        let version = folder.cluster_version()?;
        let binaries = binaries::find(options.bin_dir.as_deref(), version.as_deref(), folder, &account)?;
        let launcher = Launcher::new(folder.clone(), account, binaries, socket_dir.to_owned(), options.clone());
        let lock = launcher.wait_for_old_server(deadline)?;
        if version.is_none() {
            launcher.init_cluster(&lock, deadline)?;
        }
        let mut server = launcher.launch(lock)?;
        launcher.wait_until_ready(&mut server, deadline)?;
        Self::watch(server, launcher, owner_lock)
    }

    /// Supervises a server that is ready.
    fn watch(server: Server, launcher: Launcher, owner_lock: OwnerLock) -> Result<Self, EmbeddedError> {
        let shared = Arc::new(Shared {
            launcher,
            owner_lock,
            state: Mutex::new(State { switch: Some(server.switch), stopping: false }),
            stop_requested: Condvar::new(),
        });
        let (end, ended) = oneshot::channel();
        let watched = Arc::clone(&shared);
        let thread = move || {
            watched.keep_running(server.child);
            drop(watched);
            // A dropped supervisor has no receiver.
            let _ = end.send(());
        };
        std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(thread)
            .map_err(|error| EmbeddedError::Internal(error.to_string()))?;
        Ok(Self { shared, ended })
    }

    /// Shuts the server down; if that takes too long, immediately, which costs the next start a recovery but loses no
    /// commit.
    pub(super) async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.shared.request_stop();
        if timeout(FAST_STOP_TIMEOUT, &mut self.ended).await.is_ok() {
            return Ok(());
        }
        tracing::warn!("the fast shutdown of PostgreSQL takes too long; shutting it down immediately");
        if let Some(file) = self.shared.launcher.pid_file() {
            // It may already have ended.
            let _ = kill(file.pid, Signal::SIGQUIT);
        }
        let limit = FAST_STOP_TIMEOUT + IMMEDIATE_STOP_TIMEOUT;
        let ended = timeout(IMMEDIATE_STOP_TIMEOUT, &mut self.ended).await;
        ended.map(drop).map_err(|_| EmbeddedError::NotStopped { seconds: limit.as_secs() })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.request_stop();
    }
}

impl Shared {
    fn request_stop(&self) {
        let mut state = self.state.lock();
        self.owner_lock.turn_guests_away();
        state.stopping = true;
        state.switch = None;
        self.stop_requested.notify_all();
    }

    /// Returns when the server has ended and must not restart.
    fn keep_running(&self, mut child: Child) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let ended = child.wait();
            if self.state.lock().stopping {
                return;
            }
            let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::error!(ended, "PostgreSQL ended unexpectedly; restarting it");
            failures = if started.elapsed() < STABLE { failures + 1 } else { 0 };
            match self.restart(&mut failures) {
                Some(successor) => child = successor,
                None => return,
            }
        }
    }

    /// Tries until a server starts; none after a stop request.
    fn restart(&self, failures: &mut u32) -> Option<Child> {
        // If only the shell was killed, this stops the server that it watched.
        self.state.lock().switch = None;
        while !self.pause(*failures) {
            match self.launch() {
                Ok(server) => return self.keep_switch(server),
                Err(error) => tracing::error!(%error, "cannot restart PostgreSQL"),
            }
            *failures += 1;
        }
        None
    }

    fn launch(&self) -> Result<Server, EmbeddedError> {
        let deadline = Instant::now() + FAST_STOP_TIMEOUT;
        let lock = self.launcher.wait_for_old_server(deadline)?;
        self.launcher.launch(lock)
    }

    /// After a stop request, drops the switch, and so stops the new server.
    fn keep_switch(&self, server: Server) -> Option<Child> {
        let mut state = self.state.lock();
        if !state.stopping {
            state.switch = Some(server.switch);
        }
        Some(server.child)
    }

    /// Pauses after the second failure, and longer after each further one. Returns whether to stop.
    fn pause(&self, failures: u32) -> bool {
        let pause = match failures {
            0 | 1 => Duration::ZERO,
            more => MAX_PAUSE.min(Duration::from_millis(50) * (1 << more.min(10))),
        };
        let mut state = self.state.lock();
        self.stop_requested.wait_while_for(&mut state, |state| !state.stopping, pause);
        state.stopping
    }
}
