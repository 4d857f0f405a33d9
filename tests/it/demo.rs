//! The example that ships with reservd: its flights can be imported, and the demo on them keeps every promise.

use std::path::Path;

use indicatif::ProgressBar;
use tokio::process::Command;

use crate::support::{TestServer, soon};

#[path = "../../examples/demo/wave/mod.rs"]
mod wave;

const FLIGHTS: &str = "examples/flights.csv";

/// What `reservd event import` prints of the example.
async fn import(server: &TestServer) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reservd"));
    command.args(["event", "import", FLIGHTS]).args(["--server", &format!("http://{}", server.app.address)]);
    let output = soon("the import", command.current_dir(env!("CARGO_MANIFEST_DIR")).output()).await;
    let output = output.expect("reservd can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn flights() -> Vec<wave::Flight> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FLIGHTS);
    let mut reader = csv::Reader::from_path(file).expect("the example can be read");
    reader.deserialize().collect::<Result<_, _>>().expect("every line is a flight")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_imports_and_the_demo_keeps_every_promise() {
    let server = TestServer::start().await;
    let flights = flights();
    let all = flights.len();
    let none = "0 different, 0 cancelled, 0 bad lines, 0 lines not read\n";
    assert_eq!(import(&server).await, format!("{all} events created, 0 existing, {none}"));
    assert_eq!(import(&server).await, format!("0 events created, {all} existing, {none}"));

    let plan = wave::Plan { flights, travellers: 60, trips: 8, name: "test".into(), seed: 1 };
    let outcome = wave::run(&plan, &[server.channel()], &ProgressBar::hidden()).await.expect("the wave ends");

    assert_eq!(outcome.problems(), Vec::<&str>::new(), "{outcome}");
    for reason in ["SOLD_OUT", "ALREADY_RESERVED", "HOLD_EXPIRED", "REQUEST_ID_REUSED"] {
        assert!(outcome.tally.refusals.contains_key(reason), "no caller met {reason}:\n{outcome}");
    }
    for (call, count) in &outcome.tally.calls {
        assert!(count.done > 0, "no {call:?} was done:\n{outcome}");
    }
    server.check_and_stop().await;
}
