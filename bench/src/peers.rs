//! The peers: what SQL alone does on the same PostgreSQL, under the same settings, in the same tables,
//! driven by pgbench over the same kind of socket that the server uses.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use reservd::embedded::Embedded;
use sqlx::{ConnectOptions, PgConnection};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::sleep,
};

use crate::{
    Failure,
    scenario::{Peer, Shape},
    stage::Stage,
};

/// It is stopped when it has been measured, which is long before.
const LIMIT_SECONDS: &str = "3600";
/// How often it is asked whether its sessions are gone.
const POLL: Duration = Duration::from_millis(10);

/// Runs pgbench.
pub struct Peers {
    pgbench: PathBuf,
    scripts: PathBuf,
    events: u32,
}

impl Peers {
    /// Finds pgbench beside the server's programs, and puts its scripts into `folder`.
    pub async fn new(embedded: &Embedded, folder: &Path, events: u32) -> Result<Self, Failure> {
        const PROGRAMS: &str = "-- bench::programs
            SELECT setting FROM pg_config WHERE name = 'BINDIR'";
        let mut sql = embedded.connect_options().connect().await?;
        let programs: String = sqlx::query_scalar(PROGRAMS).fetch_one(&mut sql).await?;
        let pgbench = PathBuf::from(programs).join("pgbench");
        if !pgbench.is_file() {
            let missing = "pgbench is not installed beside PostgreSQL (postgresql-contrib has it); \
                           --no-peers runs without what it is compared with";
            return Err(missing.into());
        }
        for peer in Peer::ALL {
            std::fs::write(folder.join(file_name(peer)), peer.script())?;
        }
        Ok(Self { pgbench, scripts: folder.to_owned(), events })
    }

    /// Successes a second: reservations that are in the table in the end.
    pub async fn run(
        &self,
        stage: &Stage,
        (peer, shape, clients): (Peer, Shape, u32),
        warm_up: Duration,
        duration: Duration,
    ) -> Result<f64, Failure> {
        let mut sql = stage.sql().await?;
        let mut child = self.start(stage, peer, shape, clients)?;
        while sessions(&mut sql).await? < i64::from(clients) {
            pause(&mut child, POLL).await?;
        }
        pause(&mut child, warm_up).await?;
        let (before, begun) = (reserved(&mut sql).await?, Instant::now());
        pause(&mut child, duration).await?;
        let (after, elapsed) = (reserved(&mut sql).await?, begun.elapsed());
        child.kill().await?;
        while sessions(&mut sql).await? > 0 {
            sleep(POLL).await;
        }
        Ok((after - before) as f64 / elapsed.as_secs_f64())
    }

    fn start(&self, stage: &Stage, peer: Peer, shape: Shape, clients: u32) -> Result<Child, Failure> {
        let (first, last) = match shape {
            Shape::Hot => (0, 0),
            Shape::Uniform | Shape::Zipf => (1, self.events),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(clients as usize);
        let mut command = Command::new(&self.pgbench);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .args(["--no-vacuum", "--protocol=prepared", "--time", LIMIT_SECONDS])
            .args(["--client", &clients.to_string(), "--jobs", &threads.to_string()])
            .args(["--define", &format!("first={first}"), "--define", &format!("last={last}")])
            .arg("--file")
            .arg(self.scripts.join(file_name(peer)))
            .arg(format!("{}&application_name=pgbench", stage.url))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Ok(command.spawn()?)
    }
}

fn file_name(peer: Peer) -> &'static str {
    match peer {
        Peer::Plain => "plain_transaction.sql",
        Peer::Versioned => "read_version_and_update.sql",
    }
}

/// Waits for a time in which pgbench must not end.
async fn pause(child: &mut Child, time: Duration) -> Result<(), Failure> {
    tokio::select! {
        () = sleep(time) => Ok(()),
        status = child.wait() => {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                stderr.read_to_string(&mut said).await?;
            }
            Err(format!("pgbench ended with {}: {}", status?, said.trim().replace('\n', " | ")).into())
        }
    }
}

/// Units that the peers' events count as held; each success is one.
async fn reserved(sql: &mut PgConnection) -> Result<i64, Failure> {
    const SQL: &str = "-- bench::reserved
        SELECT COALESCE(sum(held), 0)::bigint FROM events WHERE event_id >= 'peer-' AND event_id < 'peer.'";
    Ok(sqlx::query_scalar(SQL).fetch_one(sql).await?)
}

async fn sessions(sql: &mut PgConnection) -> Result<i64, Failure> {
    const SQL: &str = "-- bench::sessions
        SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'";
    Ok(sqlx::query_scalar(SQL).fetch_one(sql).await?)
}
