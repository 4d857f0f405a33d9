//! The private PostgreSQL of `reservd serve` without a DATABASE_URL, and of the tests. A real cluster, made by the
//! installed binaries in a folder of its own: no TCP, one private socket folder, and it stops within half a second
//! of the process that started it. The first process on a folder owns the server; other processes on the same folder
//! are guests, whose database stops with the owner.
//!
//! In reading order: `options` configure it, `account` is the user that it runs as, `binaries` finds its programs,
//! `folder` is the layout on disk, `server` starts it under `settings`, `supervisor` restarts and stops it,
//! `database` connects to it.

mod account;
mod binaries;
mod database;
mod error;
mod folder;
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

use account::Account;
use folder::{Folder, OwnerLock};
use polling::{POLL, blocking, poll_until};
use server::Launcher;
use supervisor::Supervisor;

/// Long enough for crash recovery to replay a full `max_wal_size`.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running PostgreSQL: this process's, or that of another process on the same folder. Dropping the owner's
/// stops the server without waiting for it.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    supervisor: Option<Supervisor>,
}

impl Embedded {
    /// Starts the server of `options.data_dir`, or joins the one that runs there. Returns when the database `reservd`
    /// accepts connections.
    pub async fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let options = options.clone();
            let embedded = blocking(move || own_or_join(&options, deadline)).await?;
            match embedded.open_database().await {
                Ok(()) => return Ok(embedded),
                // A guest may meet a server that is starting or stopping: try again.
                Err(_) if !embedded.is_owner() && Instant::now() < deadline => {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How to connect to the database `reservd`, as its superuser, over the private socket.
    pub fn connect_options(&self) -> PgConnectOptions {
        database::connect_options(&self.socket_dir)
    }

    /// The same as a URL for psql, pgbench and other programs on libpq.
    pub fn url(&self) -> String {
        database::url(&self.socket_dir)
    }

    /// Whether this process started the server and is not a guest.
    pub fn is_owner(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Shuts the server down within a bounded time. A guest leaves it running.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.supervisor {
            Some(supervisor) => supervisor.stop().await,
            None => Ok(()),
        }
    }

    async fn open_database(&self) -> Result<(), EmbeddedError> {
        if self.is_owner() {
            database::create_if_missing(&self.socket_dir).await
        } else {
            database::probe(&self.socket_dir).await
        }
    }
}

fn own_or_join(options: &EmbeddedOptions, deadline: Instant) -> Result<Embedded, EmbeddedError> {
    let folder = Folder::create(&options.data_dir)?;
    let outcome = poll_until(deadline, || {
        if let Some(owner_lock) = folder.try_own()? {
            return launch(options, folder.clone(), owner_lock, deadline).map(Some);
        }
        let guest = |socket_dir| Embedded { socket_dir, supervisor: None };
        Ok(folder.socket_for_guests().map(guest))
    })?;
    outcome.ok_or_else(|| folder.owner_is_not_ready())
}

fn launch(
    options: &EmbeddedOptions,
    folder: Folder,
    owner_lock: OwnerLock,
    deadline: Instant,
) -> Result<Embedded, EmbeddedError> {
    let account = Account::choose(options.os_user.as_deref())?;
    folder.open_for(&account)?;
    let version = folder.cluster_version()?;
    let binaries = binaries::find(options.bin_dir.as_deref(), version.as_deref(), &folder, &account)?;
    let launcher = Launcher::new(folder, account, binaries, options)?;

    let lock = launcher.wait_for_old_server(deadline)?;
    if version.is_none() {
        launcher.init_cluster(&lock, deadline)?;
    }
    let mut server = launcher.launch(lock)?;
    launcher.wait_until_ready(&mut server, deadline)?;
    Ok(Embedded {
        socket_dir: launcher.socket_dir().to_owned(),
        supervisor: Some(Supervisor::watch(server, launcher, owner_lock)?),
    })
}
