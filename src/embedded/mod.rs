//! The private PostgreSQL of `reservd serve` without a DATABASE_URL, and of the tests. A real cluster, made by the
//! installed binaries in a folder of its own: no TCP, one private socket folder, and it stops within half a second
//! of the process that started it. The first process on a folder owns the server; other processes on the same folder
//! are guests. When the owner ends, one of them starts the server again and owns it.
//!
//! In reading order: `options` configure it, `account` is the user that it runs as, `binaries` finds its programs,
//! `folder` is the layout on disk, `server` starts it under `settings`, `supervisor` restarts and stops it, `guest`
//! takes it over, `database` connects to it.

mod account;
mod binaries;
mod database;
mod error;
mod folder;
mod guest;
mod install_advice;
mod options;
mod pid_file;
mod polling;
mod server;
mod settings;
mod supervisor;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

pub use error::EmbeddedError;
pub use options::{EmbeddedOptions, default_data_dir};

use folder::Folder;
use guest::Guest;
use polling::{POLL, blocking, poll_until};
use supervisor::Supervisor;

/// Long enough for crash recovery to replay a full `max_wal_size`.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running PostgreSQL: this process's, or that of another process on the same folder. Dropping the owner's
/// stops the server without waiting for it.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Owner(Supervisor),
    Guest(Guest),
}

impl Embedded {
    /// Starts the server of `options.data_dir`, or joins the one that runs there and takes it over when its owner ends.
    /// Returns when the database `reservd` accepts connections.
    pub async fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let deadline = Instant::now() + START_LIMIT;
        let folder = Folder::create(&options.data_dir)?;
        loop {
            let work = (options.clone(), folder.clone());
            let (socket_dir, owned) = blocking(move || own_or_join(&work.0, &work.1, deadline)).await?;
            if let Some(supervisor) = owned {
                database::create_if_missing(&socket_dir).await?;
                return Ok(Self { socket_dir, role: Role::Owner(supervisor) });
            }
            match database::probe(&socket_dir).await {
                Ok(()) => return Self::join(options, folder, socket_dir),
                // It is starting or stopping: try again.
                Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Err(error) => return Err(error),
            }
        }
    }

    fn join(options: &EmbeddedOptions, folder: Folder, socket_dir: PathBuf) -> Result<Self, EmbeddedError> {
        tracing::info!(
            owner = folder.owner(),
            folder = %folder.path().display(),
            "guest of a PostgreSQL that another reservd owns; this one takes it over when the owner ends"
        );
        let guest = Guest::watch(folder, socket_dir.clone(), options.clone())?;
        Ok(Self { socket_dir, role: Role::Guest(guest) })
    }

    /// How to connect to the database `reservd`, as its superuser, over the private socket.
    pub fn connect_options(&self) -> PgConnectOptions {
        database::connect_options(&self.socket_dir)
    }

    /// The same as a URL for psql, pgbench and other programs on libpq.
    pub fn url(&self) -> String {
        database::url(&self.socket_dir)
    }

    /// Whether this process started the server that runs, and is not a guest.
    pub fn is_owner(&self) -> bool {
        match &self.role {
            Role::Owner(_) => true,
            Role::Guest(guest) => guest.has_taken_over(),
        }
    }

    /// Shuts the server down within a bounded time. A guest leaves it running.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.role {
            Role::Owner(supervisor) => supervisor.stop().await,
            Role::Guest(guest) => guest.stop().await,
        }
    }
}

/// The socket folder of the server, and its supervisor where this process has started it.
fn own_or_join(
    options: &EmbeddedOptions,
    folder: &Folder,
    deadline: Instant,
) -> Result<(PathBuf, Option<Supervisor>), EmbeddedError> {
    let outcome = poll_until(deadline, || {
        if let Some(owner_lock) = folder.try_own()? {
            let socket_dir = folder.choose_socket_dir();
            let supervisor = Supervisor::start(folder, &socket_dir, options, owner_lock, deadline)?;
            return Ok(Some((socket_dir, Some(supervisor))));
        }
        Ok(folder.socket_for_guests().map(|socket_dir| (socket_dir, None)))
    })?;
    outcome.ok_or_else(|| folder.owner_is_not_ready())
}
