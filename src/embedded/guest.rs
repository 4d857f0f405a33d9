//! A guest waits for the end of the server's owner. Then it starts the server itself, on the same socket, so that pools
//! only have to reconnect. Of several guests, the one that gets the owner's lock does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::START_LIMIT;
use super::error::EmbeddedError;
use super::folder::Folder;
use super::options::EmbeddedOptions;
use super::supervisor::Supervisor;

/// How often a guest looks whether the owner has ended; after a failure to take over it pauses for longer and longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The handle of a guest. Dropping it ends the wait, and stops the server if it was taken over.
#[derive(Debug)]
pub(super) struct Guest {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    stop_requested: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Of the server, once it was taken over.
    supervisor: Option<Supervisor>,
}

impl Guest {
    /// Waits in a thread for the end of the owner, and takes over with the socket in `socket_dir`.
    pub(super) fn watch(folder: Folder, socket_dir: PathBuf, options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let shared = Arc::new(Shared::default());
        let watching = Arc::clone(&shared);
        let take_over = move || {
            let Some(owner_lock) = folder.try_own()? else { return Ok(None) };
            tracing::info!(folder = %folder.path().display(), "the owner of PostgreSQL has ended: taking over");
            let deadline = Instant::now() + START_LIMIT;
            Supervisor::start(&folder, &socket_dir, &options, owner_lock, deadline).map(Some)
        };
        std::thread::Builder::new()
            .name("postgres-guest".to_owned())
            .spawn(move || watching.wait_and(take_over))
            .map_err(|error| EmbeddedError::Internal(error.to_string()))?;
        Ok(Self { shared })
    }

    pub(super) fn has_taken_over(&self) -> bool {
        self.shared.state.lock().supervisor.is_some()
    }

    /// Leaves the owner's server running; shuts down one that was taken over.
    pub(super) async fn stop(self) -> Result<(), EmbeddedError> {
        match self.shared.request_stop() {
            Some(supervisor) => supervisor.stop().await,
            None => Ok(()),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.shared.request_stop());
    }
}

impl Shared {
    fn request_stop(&self) -> Option<Supervisor> {
        let mut state = self.state.lock();
        state.stopping = true;
        self.stop_requested.notify_all();
        state.supervisor.take()
    }

    /// Tries to take over until that succeeds or a stop is requested.
    fn wait_and(&self, take_over: impl Fn() -> Result<Option<Supervisor>, EmbeddedError>) {
        let mut failures = 0;
        while !self.pause(failures) {
            match take_over() {
                Ok(None) => failures = 0,
                Ok(taken) => {
                    let mut state = self.state.lock();
                    // After a stop request, dropping it stops the server.
                    state.supervisor = taken.filter(|_| !state.stopping);
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot take over PostgreSQL");
                    failures += 1;
                }
            }
        }
    }

    /// Returns whether to stop.
    fn pause(&self, failures: u32) -> bool {
        let pause = MAX_PAUSE.min(LOOK_INTERVAL * (1 << failures.min(10)));
        let mut state = self.state.lock();
        self.stop_requested.wait_while_for(&mut state, |state| !state.stopping, pause);
        state.stopping
    }
}
