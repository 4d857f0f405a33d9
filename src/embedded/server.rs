//! Makes the cluster and starts its server: with which command lines, and how it ends. A small shell stands between us and `postgres`. It waits at a pipe that we
//! hold open, and asks `postgres` to shut down when the pipe closes, which the kernel does
//! for us even if we are killed. Stopping in order is the same act: we close the pipe.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use super::account::Account;
use super::binaries::Binaries;
use super::error::Outcome;
use super::folder::{self, Folder};
use super::pid_file::{self, PidFile};
use super::waiting::poll_until;
use super::{EmbeddedError, EmbeddedOptions, at, database, settings};

/// $1 is the socket folder, the rest the command line of `postgres`. Standard input is the
/// pipe; standard output is the server's lock, which every process here keeps open.
/// SIGINT is PostgreSQL's fast shutdown: it ends the sessions and writes a checkpoint.
/// A socket folder in /tmp goes with the server; one in the data folder may stay.
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

/// A `postgres` behind its dead man's switch, which is pulled by dropping it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    pub(super) switch: ChildStdin,
    log_start: u64,
}

/// Everything it takes to start the server, and to start it again.
#[derive(Debug)]
pub(super) struct Launcher {
    folder: Folder,
    account: Account,
    binaries: Binaries,
    socket_dir: PathBuf,
    options: EmbeddedOptions,
}

impl Launcher {
    pub(super) fn new(
        folder: Folder,
        account: Account,
        binaries: Binaries,
        options: &EmbeddedOptions,
    ) -> Result<Self, EmbeddedError> {
        let socket_dir = folder.choose_socket_dir();
        Ok(Self { folder, account, binaries, socket_dir, options: options.clone() })
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub(super) fn pid_file(&self) -> Option<PidFile> {
        PidFile::read(&self.folder.cluster())
    }

    /// Waits until nothing of an earlier server is left, which ends by itself when its
    /// reservd has died, and keeps others from starting one.
    pub(super) fn wait_for_old_server(&self, deadline: Instant) -> Result<File, EmbeddedError> {
        let lock = poll_until(deadline, || self.folder.try_server_lock())?;
        lock.ok_or_else(|| EmbeddedError::OldServer {
            pid: self.pid_file().map(|file| file.pid.as_raw()),
            cluster: self.folder.cluster(),
        })
    }

    /// Makes the cluster aside, then moves it into place: a crash leaves all or nothing.
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
            // An initdb that outlives us holds off the next start, like a server.
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
            said: last_lines(&self.folder.log(), log_start),
        })
    }

    /// Starts `postgres`, which takes the lock along and is not ready yet.
    pub(super) fn launch(&self, lock: File) -> Result<Server, EmbeddedError> {
        let cluster = self.folder.cluster();
        folder::make_private_dir(&self.socket_dir, &self.account)?;
        pid_file::forget_if_of_a_stranger(&cluster).map_err(at("clean up", &cluster))?;
        let compresses_fast = self.compresses_fast(&cluster);
        let arguments = settings::postgres_arguments(&cluster, &self.socket_dir, compresses_fast, &self.options);
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
        let no_pipe = || EmbeddedError::Internal("the switch has no pipe".to_owned());
        let switch = child.stdin.take().ok_or_else(no_pipe)?;
        Ok(Server { child, switch, log_start })
    }

    /// Whether these programs take the setting, which they say without starting a server.
    fn compresses_fast(&self, cluster: &Path) -> bool {
        let setting = format!("{}={}", settings::COMPRESSION, settings::FAST_COMPRESSION);
        let mut command = self.account.command(&self.binaries.postgres());
        command.arg("-D").arg(cluster).args(["-c", &setting, "-C", settings::COMPRESSION]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Waits until the server we started takes connections; an error where it ended.
    pub(super) fn wait_until_ready(&self, server: &mut Server, deadline: Instant) -> Result<(), EmbeddedError> {
        let log = self.folder.log();
        let not_started = |outcome| EmbeddedError::NotStarted {
            outcome: Outcome(outcome),
            said: last_lines(&log, server.log_start),
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

/// What was written to the log since `start`: its last lines, as one.
fn last_lines(log: &Path, start: u64) -> String {
    const LINES: usize = 4;
    let bytes = std::fs::read(log).unwrap_or_default();
    let new = bytes.get(start as usize..).unwrap_or_default();
    let text = String::from_utf8_lossy(new);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
