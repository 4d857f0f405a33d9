//! Creates the cluster and starts its server. A small shell runs between reservd and `postgres`: it waits on a pipe
//! that reservd holds open, and shuts `postgres` down when the pipe closes. The kernel closes the pipe even if
//! reservd is killed; a normal stop closes it too.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use super::account::Account;
use super::binaries::Binaries;
use super::error::{EmbeddedError, Outcome, at};
use super::folder::{self, Folder};
use super::options::EmbeddedOptions;
use super::pid_file::{self, PidFile};
use super::polling::poll_until;
use super::{database, settings};

/// $1 is the socket folder, the rest the command line of `postgres`. Standard input is the pipe; standard output is
/// the server lock, which every process here keeps open. SIGINT is PostgreSQL's fast shutdown: it ends the sessions
/// and writes a checkpoint. The shell removes a socket folder in /tmp; one in the data folder may stay.
const DEAD_MANS_SWITCH: &str = r#"
exec 3<&0 </dev/null
socket_dir=$1
shift
"$@" 3<&- &
postgres=$!
{ read -r _; kill -INT "$postgres"; } <&3 2>/dev/null &
watcher=$!
exec 3<&-
wait "$postgres"
status=$?
kill "$watcher" 2>/dev/null
wait "$watcher"
rm -f "$socket_dir"/.s.PGSQL.*
rmdir "$socket_dir" 2>/dev/null
exit "$status"
"#;

/// A `postgres` with its dead man's switch: dropping `switch` stops the server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    pub(super) switch: ChildStdin,
    log_start: u64,
}

/// Starts the server, and restarts it.
#[derive(Debug)]
pub(super) struct Launcher {
    folder: Folder,
    account: Account,
    binaries: Binaries,
    socket_dir: PathBuf,
    options: EmbeddedOptions,
}

impl Launcher {
    pub(super) const fn new(
        folder: Folder,
        account: Account,
        binaries: Binaries,
        socket_dir: PathBuf,
        options: EmbeddedOptions,
    ) -> Self {
        Self { folder, account, binaries, socket_dir, options }
    }

    pub(super) fn pid_file(&self) -> Option<PidFile> {
        PidFile::read(&self.folder.cluster())
    }

    /// Waits until no process of an earlier server is left (it stops by itself when its reservd dies), and locks out
    /// other servers.
    pub(super) fn wait_for_old_server(&self, deadline: Instant) -> Result<File, EmbeddedError> {
        let lock = poll_until(deadline, || self.folder.try_server_lock())?;
        lock.ok_or_else(|| EmbeddedError::OldServer {
            pid: self.pid_file().map(|file| file.pid.as_raw()),
            cluster: self.folder.cluster(),
        })
    }

    /// Creates the cluster in another folder, then moves it into place: a crash leaves all or nothing.
    pub(super) fn init_cluster(&self, lock: &File, deadline: Instant) -> Result<(), EmbeddedError> {
        let partial = self.folder.partial_cluster();
        folder::make_private_dir(&partial, &self.account)?;
        let log = self.folder.open_log()?;
        let log_start = length(&log);
        let program = self.binaries.initdb();
        let mut command = self.account.command(&program);
        command
            .args(["-A", "trust", "-E", "UTF8", "--locale=C", "-U", database::USER, "-D"])
            .arg(&partial)
            .args((!self.options.durable).then_some("--no-sync"))
            // An initdb that outlives reservd delays the next start, like a server.
            .stdin(lock.try_clone().map_err(at("share the lock of", &partial))?)
            .stdout(log.try_clone().map_err(at("share", &self.folder.log()))?)
            .stderr(log);
        let mut initdb = spawn(&mut command, &program)?;
        let status = poll_until(deadline, || initdb.try_wait().map_err(at("wait for", &program)))?;
        if status.is_some_and(|status| status.success()) {
            return self.folder.adopt_partial_cluster();
        }
        initdb.kill().map_err(at("end", &program))?;
        Err(EmbeddedError::InitDb {
            cluster: partial,
            outcome: Outcome(status),
            output: last_lines(&self.folder.log(), log_start),
        })
    }

    /// Starts `postgres`, which inherits the lock and is not ready yet.
    pub(super) fn launch(&self, lock: File) -> Result<Server, EmbeddedError> {
        let cluster = self.folder.cluster();
        folder::make_private_dir(&self.socket_dir, &self.account)?;
        pid_file::remove_if_stale(&cluster).map_err(at("clean up", &cluster))?;
        let has_lz4 = self.has_lz4(&cluster);
        let arguments = settings::postgres_arguments(&cluster, &self.socket_dir, has_lz4, &self.options);
        let log = self.folder.open_log()?;
        let log_start = length(&log);
        let shell = Path::new("/bin/sh");
        let mut command = self.account.command(shell);
        command
            .args(["-c", DEAD_MANS_SWITCH, "reservd-postgres"])
            .arg(&self.socket_dir)
            .arg(self.binaries.postgres())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(lock)
            .stderr(log);
        let mut child = spawn(&mut command, shell)?;
        let no_pipe = || EmbeddedError::Internal("the shell has no pipe".to_owned());
        let switch = child.stdin.take().ok_or_else(no_pipe)?;
        Ok(Server { child, switch, log_start })
    }

    /// Whether these programs support LZ4, which `postgres -C` checks without starting a server.
    fn has_lz4(&self, cluster: &Path) -> bool {
        let setting = format!("{}={}", settings::COMPRESSION, settings::LZ4);
        let mut command = self.account.command(&self.binaries.postgres());
        command.arg("-D").arg(cluster).args(["-c", &setting, "-C", settings::COMPRESSION]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Waits until the server accepts connections; fails if it ends.
    pub(super) fn wait_until_ready(&self, server: &mut Server, deadline: Instant) -> Result<(), EmbeddedError> {
        let log = self.folder.log();
        let not_started = |outcome| EmbeddedError::NotStarted {
            outcome: Outcome(outcome),
            output: last_lines(&log, server.log_start),
            log: log.clone(),
        };
        let ready = poll_until(deadline, || match server.child.try_wait().map_err(at("wait for", &log))? {
            Some(status) => Err(not_started(Some(status))),
            None => Ok(self.folder.socket_of_running_server()),
        })?;
        ready.ok_or_else(|| not_started(None))?;
        let version = self.binaries.version();
        tracing::info!(%version, socket_dir = %self.socket_dir.display(), "PostgreSQL is ready");
        Ok(())
    }
}

fn spawn(command: &mut Command, program: &Path) -> Result<Child, EmbeddedError> {
    command.spawn().map_err(|source| EmbeddedError::Spawn { program: program.to_owned(), source })
}

fn length(log: &File) -> u64 {
    log.metadata().map_or(0, |it| it.len())
}

/// The last lines of the log after `start`, as one line.
fn last_lines(log: &Path, start: u64) -> String {
    const LINES: usize = 4;
    let bytes = std::fs::read(log).unwrap_or_default();
    let new = bytes.get(start as usize..).unwrap_or_default();
    let text = String::from_utf8_lossy(new);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
