//! The machine: what it is, how busy its cores are and with whom, and how much memory a process holds.
//! Where the system does not tell (there is no /proc), the report says nothing about it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use serde::Serialize;

/// Ticks of /proc/stat in a second: fixed by Linux for its readers.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often the disk is asked how long a commit takes it.
const SYNCS: usize = 50;
/// What a core misses at most between two looks at the clock, unless it is taken away.
const SHORTEST_PAUSE: Duration = Duration::from_micros(500);

/// Processor time used so far, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct CpuTimes {
    at: Instant,
    machine: f64,
    server: f64,
    load: f64,
}

/// Cores busy on average, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuShare {
    /// The server.
    pub server: f64,
    /// The load generator: this process.
    pub load: f64,
    /// PostgreSQL, the kernel's own work, and whatever else the machine did.
    pub postgres_and_rest: f64,
}

impl CpuTimes {
    /// Used so far by all processes, by the server, and by us.
    pub fn now(server: Pid) -> Option<Self> {
        let machine = machine_ticks(&fs::read_to_string("/proc/stat").ok()?)? / TICKS_PER_SECOND;
        let (server, load) = (process_seconds(server)?, process_seconds(Pid::this())?);
        Some(Self { at: Instant::now(), machine, server, load })
    }

    /// What was used since then.
    pub fn share_since(&self, then: &Self) -> CpuShare {
        let elapsed = (self.at - then.at).as_secs_f64().max(0.001);
        let cores = |now: f64, before: f64| ((now - before) / elapsed).max(0.0);
        let (server, load) = (cores(self.server, then.server), cores(self.load, then.load));
        let all = cores(self.machine, then.machine);
        CpuShare { server, load, postgres_and_rest: (all - server - load).max(0.0) }
    }

    /// The server's processor time since then for each of so many calls, in microseconds.
    pub fn server_micros_per_call(&self, then: &Self, calls: u64) -> Option<f64> {
        (calls > 0).then(|| (self.server - then.server) * 1e6 / calls as f64)
    }
}

/// Busy ticks of all cores: everything but idle and waiting for the disk.
fn machine_ticks(stat: &str) -> Option<f64> {
    let numbers: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).map_while(|it| it.parse().ok()).collect();
    // user nice system idle iowait irq softirq; what follows is counted in these or not ours.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|place| numbers.get(*place)).sum();
    (numbers.len() >= 7).then_some(busy)
}

/// The processor time of a process, user and system, in seconds.
#[cfg(target_os = "linux")]
fn process_seconds(process: Pid) -> Option<f64> {
    let time = nix::time::clock_getcpuclockid(process).ok()?.now().ok()?;
    Some(Duration::from(time).as_secs_f64())
}

#[cfg(not(target_os = "linux"))]
fn process_seconds(_process: Pid) -> Option<f64> {
    None
}

/// Resets the peak of a process's memory.
pub fn reset_peak_memory(process: Pid) {
    // Where it is not allowed, the peak is that of a longer time, which is stricter.
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// A figure of a process's memory, in bytes: `VmRSS` is what is resident, `VmHWM` the most that was.
pub fn memory(process: Pid, figure: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// How many file descriptors a process has open, but for Unix sockets: these are its connections to PostgreSQL, which it
/// keeps.
pub fn descriptors(process: Pid) -> Option<usize> {
    let unix = fs::read_to_string(format!("/proc/{process}/net/unix")).ok()?;
    let inodes = unix.lines().skip(1).filter_map(|line| line.split_whitespace().nth(6));
    let unix: HashSet<_> = inodes.map(|inode| PathBuf::from(format!("socket:[{inode}]"))).collect();
    let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Some(targets.filter(|target| !unix.contains(target)).count())
}

/// What a report says about the machine.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    pub kernel: String,
    /// Processes that wanted a core just before the run, over a minute: more than a fraction of one
    /// means that the machine was not idle.
    pub load_before: String,
    /// What one write to the disk of the database takes until it is safe, in milliseconds.
    pub disk_sync_ms: Option<f64>,
    /// Whether the folder of the database is in memory: then no write was ever safe.
    pub data_in_memory: bool,
    /// How the cores stand still by themselves, before anything is measured.
    pub pauses: Pauses,
}

/// When cores that had nothing else to do did not go on: a hypervisor or another process took them away.
/// Whatever is measured meanwhile waits too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pauses {
    /// The longest, in milliseconds.
    pub longest_ms: f64,
    /// What part of a core's time they took.
    pub share: f64,
}

impl Machine {
    /// This machine, with a look at the disk that holds `folder`, and for so long at the cores.
    pub fn look(folder: &Path, cores_watched: Duration) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after_colon = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory = after_colon(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok());
        Self {
            processor: after_colon(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kilobytes.map(|kilobytes| kilobytes * 1024),
            kernel: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
            load_before: read("/proc/loadavg").split_whitespace().next().unwrap_or("unknown").to_owned(),
            disk_sync_ms: sync_time(folder).ok().map(|time| time.as_secs_f64() * 1000.0),
            data_in_memory: is_in_memory(folder),
            pauses: Pauses::watch(cores_watched),
        }
    }
}

impl Pauses {
    /// Keeps every core busy for so long with looking at the clock.
    fn watch(time: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let found: Vec<_> = std::thread::scope(|scope| {
            let watching: Vec<_> = (0..cores).map(|_| scope.spawn(|| pauses_of_this_thread(time))).collect();
            watching.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        Self::of(&found, time * u32::try_from(cores).unwrap_or(1))
    }

    /// Of these, in so much time of cores.
    fn of(found: &[Duration], time: Duration) -> Self {
        let longest = found.iter().max().copied().unwrap_or_default();
        let share = found.iter().sum::<Duration>().as_secs_f64() / time.as_secs_f64();
        Self { longest_ms: longest.as_secs_f64() * 1000.0, share }
    }
}

fn pauses_of_this_thread(time: Duration) -> Vec<Duration> {
    let begun = Instant::now();
    let (mut last, mut found) = (begun, Vec::new());
    while last - begun < time {
        let now = Instant::now();
        found.extend(Some(now - last).filter(|pause| *pause >= SHORTEST_PAUSE));
        last = now;
    }
    found
}

#[cfg(target_os = "linux")]
fn is_in_memory(folder: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(folder).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_folder: &Path) -> bool {
    false
}

/// The median time of one small write with `fdatasync`, as a commit does it.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join("sync-test");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[7; 8192])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_as_the_kernel_writes_them() {
        assert_eq!(machine_ticks("cpu  10 1 5 1000 7 2 3 0 0 0\ncpu0 1 1 1 1 1 1 1\n"), Some(21.0));
        assert_eq!(machine_ticks("nonsense"), None);
    }

    #[test]
    fn pauses_are_the_longest_and_a_part_of_all_time() {
        let [three, one] = [3, 1].map(Duration::from_millis);
        assert_eq!(Pauses::of(&[one, three], Duration::from_secs(2)), Pauses { longest_ms: 3.0, share: 0.002 });
        assert_eq!(Pauses::of(&[], Duration::from_secs(2)), Pauses::default());
    }
}
