//! Keeps the server running and ends it. A thread of its own waits for the server's process
//! and starts it again should it die, on the same socket, so pools only have to reconnect.
//! It is a thread and not a task, so that a server shared by tests outlives the runtime of
//! the test that happened to start it.

use std::process::{Child, ChildStdin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::EmbeddedError;
use super::folder::OwnerLock;
use super::server::{Launcher, Server};

/// An orderly stop writes a checkpoint, of up to `shared_buffers` on a slow disk.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(30);
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(5);

/// A server that lived this long starts again at once; one that did not, a little later.
const SETTLED: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The owner's hold on the running server; dropping it asks the server to stop.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    launcher: Launcher,
    /// Kept until the server has ended and nobody holds on to us.
    owner_lock: OwnerLock,
    state: Mutex<State>,
    stop_asked: Condvar,
}

#[derive(Debug)]
struct State {
    /// The dead man's switch of the server that runs.
    switch: Option<ChildStdin>,
    stopping: bool,
}

impl Supervisor {
    /// Watches a server that is ready.
    pub(super) fn watch(server: Server, launcher: Launcher, owner_lock: OwnerLock) -> Result<Self, EmbeddedError> {
        let shared = Arc::new(Shared {
            launcher,
            owner_lock,
            state: Mutex::new(State { switch: Some(server.switch), stopping: false }),
            stop_asked: Condvar::new(),
        });
        let (tell_end, ended) = oneshot::channel();
        let watched = Arc::clone(&shared);
        let thread = move || {
            watched.keep_running(server.child);
            drop(watched);
            // Nobody waits for it where the supervisor was dropped.
            let _ = tell_end.send(());
        };
        std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(thread)
            .map_err(|error| EmbeddedError::Internal(error.to_string()))?;
        Ok(Self { shared, ended })
    }

    /// Ends the server in order; where that takes too long, at once, which costs the next
    /// start a recovery but loses nothing.
    pub(super) async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.shared.ask_to_stop();
        if timeout(FAST_STOP_LIMIT, &mut self.ended).await.is_ok() {
            return Ok(());
        }
        tracing::warn!("PostgreSQL takes long to stop in order; stopping it at once");
        if let Some(file) = self.shared.launcher.pid_file() {
            // It may have ended just now.
            let _ = kill(file.pid, Signal::SIGQUIT);
        }
        let limit = FAST_STOP_LIMIT + IMMEDIATE_STOP_LIMIT;
        let ended = timeout(IMMEDIATE_STOP_LIMIT, &mut self.ended).await;
        ended.map(drop).map_err(|_| EmbeddedError::NotStopped { seconds: limit.as_secs() })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.ask_to_stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_to_stop(&self) {
        let mut state = self.state();
        self.owner_lock.turn_guests_away();
        state.stopping = true;
        state.switch = None;
        self.stop_asked.notify_all();
    }

    /// Returns when the server has ended and shall not run again.
    fn keep_running(&self, mut child: Child) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let ended = child.wait();
            if self.state().stopping {
                return;
            }
            tracing::error!(?ended, "PostgreSQL ended by itself; starting it again");
            failures = if started.elapsed() < SETTLED { failures + 1 } else { 0 };
            match self.start_again(&mut failures) {
                Some(successor) => child = successor,
                None => return,
            }
        }
    }

    /// Tries until a server has been started; None once we shall stop.
    fn start_again(&self, failures: &mut u32) -> Option<Child> {
        // Where only the shell was killed, this ends the server that it watched.
        self.state().switch = None;
        while !self.pause(*failures) {
            match self.launch() {
                Ok(server) => return self.keep_switch(server),
                Err(error) => tracing::error!(%error, "cannot start PostgreSQL again"),
            }
            *failures += 1;
        }
        None
    }

    fn launch(&self) -> Result<Server, EmbeddedError> {
        let deadline = Instant::now() + FAST_STOP_LIMIT;
        let lock = self.launcher.wait_for_old_server(deadline)?;
        self.launcher.launch(lock)
    }

    /// Asked to stop meanwhile, the switch is dropped and so the new server ends.
    fn keep_switch(&self, server: Server) -> Option<Child> {
        let mut state = self.state();
        if !state.stopping {
            state.switch = Some(server.switch);
        }
        Some(server.child)
    }

    /// Waits longer after each failure, none after the first. Tells whether to stop.
    fn pause(&self, failures: u32) -> bool {
        let pause = match failures {
            0 | 1 => Duration::ZERO,
            more => LONGEST_PAUSE.min(Duration::from_millis(50) * (1 << more.min(10))),
        };
        let unless_stopping = |state: &mut State| !state.stopping;
        let waited = self.stop_asked.wait_timeout_while(self.state(), pause, unless_stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}
