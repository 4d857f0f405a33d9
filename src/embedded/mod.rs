//! The private PostgreSQL of `reservd serve` without a DATABASE_URL, and of the tests.
//! A real cluster, made from the installed binaries in a folder of its own: no TCP, one
//! private socket folder, gone within half a second of the process that started it.
//! The first process on a folder owns the server; others on the same folder are guests,
//! whose database ends with the owner.
//!
//! In reading order: `account` is whom it runs as, `binaries` finds it, `folder` is what lies
//! on disk, `server` starts it under `settings`, `supervisor` keeps it running and ends it,
//! `database` is what we connect to.

mod account;
mod advice;
mod binaries;
mod database;
mod error;
mod folder;
mod pid_file;
mod server;
mod settings;
mod supervisor;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

pub use error::EmbeddedError;

use account::Account;
use folder::{Folder, OwnerLock};
use server::Launcher;
use supervisor::Supervisor;
use waiting::{POLL, blocking, poll_until};

/// Long enough for crash recovery to replay a full `max_wal_size`.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Which server to run, where and as whom.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Everything of this server lives in here; made if missing.
    pub data_dir: PathBuf,
    /// Look for `postgres` and `initdb` only here, instead of in the usual places.
    pub bin_dir: Option<PathBuf>,
    /// Started by root, run PostgreSQL as this user, else as `postgres`, else as `nobody`.
    /// Ignored for an ordinary user, who runs it himself.
    pub os_user: Option<String>,
    /// On: an acknowledged commit survives a power cut. Off: fast, for tests.
    pub durable: bool,
    /// PostgreSQL's own limit; the pools of all processes on it must fit.
    pub max_connections: u32,
    /// More settings of PostgreSQL; they win over ours.
    pub settings: Vec<(String, String)>,
}

impl EmbeddedOptions {
    /// A server that keeps what it acknowledged.
    pub fn durable(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            os_user: None,
            durable: true,
            max_connections: 100,
            settings: Vec::new(),
        }
    }

    /// A server that is fast rather than safe against a power cut.
    pub fn for_tests(data_dir: impl Into<PathBuf>) -> Self {
        Self { durable: false, ..Self::durable(data_dir) }
    }
}

/// Where `reservd serve` keeps its data unless told otherwise: the XDG data folder; for root
/// `/var/lib/reservd`, since root's home is closed to the user that PostgreSQL runs as.
pub fn default_data_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let home = variable("HOME").or_else(account::own_home);
    data_dir_for(account::is_root(), variable("XDG_DATA_HOME"), home)
}

fn data_dir_for(root: bool, xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/reservd");
    }
    xdg_data_home
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from(".reservd"), |base| base.join("reservd"))
}

/// A running PostgreSQL: ours, or another process's on the same folder.
/// Dropping the owner's asks the server to stop without waiting for it.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    supervisor: Option<Supervisor>,
}

impl Embedded {
    /// Starts the server of `options.data_dir`, or joins the one that runs there.
    /// Returns when the database `reservd` answers.
    pub async fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let options = options.clone();
            let embedded = blocking(move || own_or_join(&options, deadline)).await?;
            match embedded.open_database().await {
                Ok(()) => return Ok(embedded),
                // A guest may meet a server that starts up or goes away: look again.
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

    /// The same as a URL that psql, pgbench and everything on libpq accepts.
    pub fn url(&self) -> String {
        database::url(&self.socket_dir)
    }

    /// Whether this process started the server; else it is a guest.
    pub fn is_owner(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Shuts the server down in order, in bounded time. A guest stops nothing.
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

/// Names the file in an I/O error, which the error itself does not.
fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> EmbeddedError + 'a {
    move |source| EmbeddedError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_its_data_outside_its_closed_home() {
        let home = Some(PathBuf::from("/root"));
        assert_eq!(data_dir_for(true, home.clone(), home), Path::new("/var/lib/reservd"));
    }

    #[test]
    fn an_ordinary_user_keeps_data_in_the_xdg_folder() {
        let home = Some(PathBuf::from("/home/ann"));
        let xdg = Some(PathBuf::from("/data/ann"));
        assert_eq!(data_dir_for(false, xdg, home.clone()), Path::new("/data/ann/reservd"));
        assert_eq!(data_dir_for(false, None, home.clone()), Path::new("/home/ann/.local/share/reservd"));
        let relative_is_ignored = Some(PathBuf::from("share"));
        assert_eq!(data_dir_for(false, relative_is_ignored, home), Path::new("/home/ann/.local/share/reservd"));
    }
}
