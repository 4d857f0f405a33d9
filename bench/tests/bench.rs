//! `reservd-bench` from end to end, on numbers so small that they mean nothing: what it measures, that it audits the
//! events and fails when their counters are wrong, and that it cleans up. Needs the `reservd` beside it, which
//! `cargo build` makes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reservd::embedded::{Embedded, EmbeddedOptions};
use serde_json::Value;
use sqlx::ConnectOptions;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::{Duration, timeout},
};

/// Longer than any of these runs takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
const STRATEGIES: [&str; 3] = ["PESSIMISTIC", "OPTIMISTIC", "COALESCED"];
/// As little as can be measured.
const TINY: [&str; 4] = ["--quick", "--callers=1,4", "--clients=2", "--events=20"];

/// A folder that goes with the test, open to the user that PostgreSQL runs as.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("reservd-bench-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a folder can be made");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("and opened");
        Self(path)
    }

    fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    fn report(&self) -> Value {
        let json = fs::read_to_string(self.out().join("report.json")).expect("there is a report");
        serde_json::from_str(&json).expect("it is valid JSON")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A run.
struct Run {
    child: Child,
    told: Lines<BufReader<ChildStderr>>,
}

impl Run {
    fn start(folder: &Folder, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_reservd-bench"))
            .args(TINY)
            .args(options)
            .arg("--out")
            .arg(folder.out())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be run");
        let told = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { child, told }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("it runs").try_into().expect("a process id"))
    }

    async fn line(&mut self) -> Option<String> {
        self.told.next_line().await.expect("lines can be read")
    }

    /// Waits for its end. Returns what it said on standard error, too.
    async fn end(mut self) -> (ExitStatus, String) {
        let ended = async {
            let mut said = String::new();
            while let Some(line) = self.line().await {
                said += &(line + "\n");
            }
            (self.child.wait().await.expect("it ends"), said)
        };
        timeout(PATIENCE, ended).await.expect("it ends in time")
    }
}

/// What a run of this process id may leave in the folders for temporary files.
fn leftovers(pid: Pid) -> Vec<PathBuf> {
    let prefix = format!("reservd-bench-{pid}-");
    let entries = fs::read_dir("/var/tmp").into_iter().chain(fs::read_dir(std::env::temp_dir())).flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|entry| entry.path()).collect()
}

#[tokio::test]
async fn a_run_measures_everything_audits_the_events_and_reports() {
    let folder = Folder::new("all");
    let scenarios = "--scenario=hot,uniform,zipf,hot-life,hot-half-rate,hot-same-rate,overload";
    let run = Run::start(
        &folder,
        &[scenarios, "--duration=200ms", "--filled=200", "--authentication", "--request-ids", "--targets"],
    );
    let pid = run.pid();
    let (status, said) = run.end().await;
    assert!(status.success(), "{said}");

    let report = folder.report();
    let verified = &report["verified"];
    assert_eq!(verified["problems"], Value::Array(vec![]), "{verified}");
    // The hot event and the others, once on the main stage and once on the empty table; the full one; those of the
    // servers with and without tokens.
    assert_eq!(verified["events"], 21 + 21 + 20 + 2 + 2);
    let (told, unknown) = (verified["acknowledged"].as_u64(), verified["unknown"].as_u64());
    let (told, unknown) = (told.expect("a count"), unknown.expect("a count"));
    assert!(told > 0, "{verified}");
    let changes = verified["changes"].as_u64().expect("a count");
    assert!((told..=told + unknown).contains(&changes), "{verified}");

    let results = report["results"].as_array().expect("a list");
    let measured = |scenario: &str, who: &str, callers: u64| {
        let found = results
            .iter()
            .find(|it| it["scenario"] == scenario && it["who"] == who && it["callers"] == callers)
            .unwrap_or_else(|| panic!("{scenario} of {who} with {callers} was not measured"));
        assert!(found["per_second"]["median"].as_f64() >= Some(0.0), "{found}");
        found
    };
    for who in STRATEGIES {
        for scenario in ["hot", "uniform", "zipf", "hot-life"] {
            assert_eq!(measured(scenario, who, 4)["rounds"].as_array().map(Vec::len), Some(1));
        }
        let half = measured("hot-half-rate", who, 512);
        assert!(half["rounds"][0]["offered_per_second"].is_f64(), "{half}");
        let offered = |who| measured("hot-same-rate", who, 512)["rounds"][0]["offered_per_second"].as_f64();
        assert!(offered(who).is_some() && offered(who) == offered(STRATEGIES[0]), "{who}");
        for table in ["empty", "filled", "filled-wide"] {
            measured(table, who, 64);
        }
    }
    for scenario in ["open", "guarded"] {
        let rate = measured(scenario, "COALESCED", 4)["per_second"]["max"].as_f64();
        assert!(rate > Some(0.0), "{scenario}: nothing was let in");
    }
    for scenario in ["sustained", "overload", "after-overload"] {
        assert!(results.iter().any(|it| it["scenario"] == scenario), "{scenario} was not measured");
    }
    for scenario in ["hot", "uniform"] {
        for peer in ["pgbench, plain transaction", "pgbench, version and retry"] {
            let rate = measured(scenario, peer, 2)["per_second"]["max"].as_f64();
            assert!(rate > Some(0.0), "{scenario}: {peer} did nothing");
        }
    }
    assert_eq!(report["targets"].as_array().map(Vec::len), Some(12));
    check_page(&folder.out().join("report.html"));
    assert_eq!(leftovers(pid), Vec::<PathBuf>::new());
}

fn check_page(path: &Path) {
    let html = fs::read_to_string(path).expect("there is a page");
    assert!(html.to_lowercase().starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
    assert!(html.matches("<svg ").count() >= 8, "plots are missing");
    let [summary, targets] = ["Against SQL alone", "<h2>Targets"].map(|title| html.find(title).expect("a section"));
    assert!(summary < targets, "a user's questions come first");
    assert!(html.contains("the counters are right"));
    for foreign in ["<script", "<link", "<img", "@import", "url(", "src="] {
        assert!(!html.contains(foreign), "not self-contained: {foreign}");
    }
    for broken in ["NaN", "inf\"", "inf,"] {
        assert!(!html.contains(broken), "a number that is none: {broken}");
    }
}

#[tokio::test]
async fn two_builds_are_compared_round_by_round() {
    let folder = Folder::new("compared");
    let reservd = Path::new(env!("CARGO_BIN_EXE_reservd-bench")).with_file_name("reservd").display().to_string();
    let options = ["--duration=200ms", "--rounds=2", "--strategy=coalesced", "--compare", &reservd];
    let (status, said) = Run::start(&folder, &options).end().await;
    assert!(status.success(), "{said}");

    let report = folder.report();
    let compared = report["comparison"].as_array().expect("a list");
    assert_eq!(compared.len(), 4, "hot and uniform, 1 and 4 callers: {compared:?}");
    for one in compared {
        assert_eq!(one["strategy"], "COALESCED");
        let ratios = one["ratios"].as_object().expect("a table");
        assert_eq!(ratios.len(), 5);
        assert!(ratios.values().all(|ratio| ratio["median"].as_f64() > Some(0.0)), "{one}");
    }
    // 20 events and the hot one, at each of the two.
    assert_eq!((&report["verified"]["events"], &report["verified"]["problems"]), (&42.into(), &Value::Array(vec![])));
    assert_eq!(report["targets"], Value::Null, "without --targets there are none");
    let html = fs::read_to_string(folder.out().join("report.html")).expect("there is a page");
    assert!(html.contains("Against another build") && html.contains("not measured"), "what a reader looks for");
}

#[tokio::test]
async fn a_run_on_wrong_counters_fails() {
    let folder = Folder::new("wrong");
    let data = folder.0.join("data");
    let data_dir = format!("--data-dir={}", data.display());
    let options = [
        data_dir.as_str(),
        "--duration=100ms",
        "--scenario=hot",
        "--strategy=optimistic",
        "--no-peers",
        "--filled=100",
    ];
    let (status, said) = Run::start(&folder, &options).end().await;
    assert!(status.success(), "{said}");

    // What a fast and wrong program would have left.
    let embedded = Embedded::start(&EmbeddedOptions::for_tests(&data)).await.expect("the data is still there");
    let mut sql =
        embedded.connect_options().database("reservd_bench_filled_100").connect().await.expect("so is the table");
    let wronged = sqlx::query("UPDATE events SET held = held + 1 WHERE event_id = 'bench-7'").execute(&mut sql).await;
    assert_eq!(wronged.expect("it can be changed").rows_affected(), 1);
    drop(sql);
    embedded.stop().await.expect("it stops");

    let (status, said) = Run::start(&folder, &options).end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the counters are wrong"), "{said}");
    let report = folder.report();
    let problems = report["verified"]["problems"].to_string();
    assert!(
        problems.contains("bench-7: 2 units counted as held") || problems.contains("bench-7: its counters"),
        "{problems}"
    );
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing_behind() {
    let folder = Folder::new("interrupted");
    let mut run = Run::start(&folder, &["--scenario=hot", "--duration=600s"]);
    let pid = run.pid();
    let measuring = async { while !run.line().await.expect("it still runs").starts_with("round 1") {} };
    timeout(PATIENCE, measuring).await.expect("it begins to measure");
    assert_eq!(leftovers(pid).len(), 1, "its data is where temporary files are");

    kill(pid, Signal::SIGINT).expect("it can be interrupted");
    let (status, said) = run.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(leftovers(pid), Vec::<PathBuf>::new());
    assert!(!folder.out().join("report.json").exists(), "nothing was found out");
}
