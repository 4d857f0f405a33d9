//! docs/METRICS.md is the table of the metrics: of all that are declared, and of nothing else that is served.

use std::collections::{BTreeMap, BTreeSet};

use reservd::{
    rpc::pb::{self, *},
    telemetry::metrics::Metrics,
};

use super::metrics::get;
use crate::support::{STRATEGIES, TestServer, process::checkout, reserve, watch_of, with};

const PAGE: &str = "docs/METRICS.md";

/// What the system knows of the process, with its type and meaning. Prometheus' own libraries use the same names.
const OF_THE_PROCESS: [(&str, &str, &str); 7] = [
    ("process_cpu_seconds_total", "counter", "Processor time, of user and system."),
    ("process_max_fds", "gauge", "File descriptors that may be open."),
    ("process_open_fds", "gauge", "File descriptors that are open."),
    ("process_resident_memory_bytes", "gauge", "Memory in use."),
    ("process_start_time_seconds", "gauge", "The start of the process, in seconds since 1970."),
    ("process_threads", "gauge", "Threads of the process."),
    ("process_virtual_memory_bytes", "gauge", "Address space in use."),
];

fn unit(name: &str) -> &'static str {
    let base = name.trim_end_matches("_total");
    match base {
        _ if base.ends_with("_seconds") => "seconds",
        _ if base.ends_with("_bytes") => "bytes",
        _ => "",
    }
}

fn row(name: &str, kind: &str, labels: &[&str], meaning: &str) -> String {
    let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    format!("| `{name}` | {kind} | {labels} | {} | {meaning} |\n", unit(name))
        .replace("|  |", "| |")
        .replace("|  |", "| |")
}

fn table() -> String {
    let declared = Metrics::DECLARATIONS.iter().map(|it| row(it.name, it.kind, it.labels, it.help));
    declared.chain(OF_THE_PROCESS.map(|(name, kind, meaning)| row(name, kind, &[], meaning))).collect()
}

/// `WRITE_DOCS=1 cargo test metrics_md_is_made_of_the_declarations` writes the page.
#[test]
fn metrics_md_is_made_of_the_declarations() {
    const HEAD: &str = "| --- | --- | --- | --- | --- |\n";
    let page = std::fs::read_to_string(checkout(PAGE)).expect("there is a page");
    let (before, _) = page.split_once(HEAD).expect("it has a table");
    let made = format!("{before}{HEAD}{}", table());
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(checkout(PAGE), &made).expect("the page can be written");
    }
    assert_eq!(std::fs::read_to_string(checkout(PAGE)).expect("there is a page"), made, "run it with WRITE_DOCS=1");
}

/// The families in Prometheus' text format by name, each with its type and the labels of its samples.
fn families(text: &str) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
    let mut found = BTreeMap::new();
    let mut family = None;
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            family = Some(found.entry(name).or_insert((kind, BTreeSet::new())));
        } else if let (Some((_, labels)), Some((_, rest)), false) =
            (&mut family, line.split_once('{'), line.starts_with('#'))
        {
            let names = rest.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name);
            labels.extend(names.filter(|name| *name != "le"));
        }
    }
    found
}

/// One server that takes calls of every kind: a mutation by each strategy, a refusal, a list, a watch.
async fn busy_server() -> TestServer {
    let server = TestServer::start().await;
    server.event("e", 9).await;
    for strategy in STRATEGIES {
        let request = ReserveRequest { options: with(strategy), ..reserve("e", strategy.as_str_name()) };
        server.reservations().reserve(request).await.expect("there is room");
    }
    server.reservations().reserve(ReserveRequest { quantity: 99, ..reserve("e", "eve") }).await.expect_err("too many");
    server.events().list_events(pb::ListEventsRequest::default()).await.expect("it answers");
    let mut watch = server.feed().watch_changes(watch_of("e", Some(1))).await.expect("it begins").into_inner();
    watch.message().await.expect("it goes on").expect("a change");
    server
}

#[tokio::test]
async fn what_a_server_exposes_is_in_the_table_and_what_the_table_has_is_exposed() {
    let server = busy_server().await;
    let (_, text) = get(&server, "/metrics").await;
    let exposed = families(&text);
    let mut known: BTreeMap<&str, (&str, BTreeSet<&str>)> =
        Metrics::DECLARATIONS.iter().map(|it| (it.name, (it.kind, it.labels.iter().copied().collect()))).collect();
    known.extend(OF_THE_PROCESS.map(|(name, kind, _)| (name, (kind, BTreeSet::new()))));
    for (name, family) in &exposed {
        assert_eq!(known.get(name), Some(family), "{name} is not in {PAGE} as it is exposed");
    }
    // A metric with labels is exposed with its first sample, and some of these take an outage.
    let missing = known.iter().filter(|(name, (_, labels))| labels.is_empty() && !exposed.contains_key(*name));
    assert_eq!(missing.collect::<Vec<_>>(), [], "in {PAGE} and not exposed");
    let of_calls = ["reservd_rpcs_total", "reservd_outcomes_total", "reservd_build_info", "reservd_call_queue"];
    assert!(of_calls.iter().all(|name| exposed.contains_key(name)), "{text}");
    server.check_and_stop().await;
}
