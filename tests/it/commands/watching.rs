//! `reservd watch`.

use std::process::Stdio;

use reservd::rpc::pb::CancelEventRequest;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{Proxy, TestServer, process::program, reserve, soon};

/// A running `reservd watch`.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(address: &str, arguments: &[&str]) -> Self {
        let mut command: Command = program([&["watch"][..], arguments, &["--server", address]].concat());
        let mut child = command.stderr(Stdio::null()).spawn().expect("the program can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        Self { child, lines }
    }

    /// The next line; none when the watch has ended.
    async fn line(&mut self) -> Option<String> {
        soon("a line of the watch", self.lines.next_line()).await.expect("it is text")
    }

    async fn code(&mut self) -> Option<i32> {
        soon("the watch ends", self.child.wait()).await.expect("it can be waited for").code()
    }
}

async fn cancel(server: &TestServer, event_id: &str) {
    let request = CancelEventRequest { event_id: event_id.into(), ..Default::default() };
    server.events().cancel_event(request).await.expect("it exists");
}

#[tokio::test]
async fn a_watch_shows_the_event_and_each_change_until_it_is_cancelled() {
    let server = TestServer::start().await;
    server.event("hamlet", 5).await;
    let mut watching = Watching::start(&format!("http://{}", server.app.address), &["hamlet"]);
    let first = watching.line().await.expect("the event as it is");
    assert!(first.contains("hamlet  v1  is now  [OPEN: 0 held, 0 confirmed, 5 free, 0 waiting]"), "{first}");
    server.reservations().reserve(reserve("hamlet", "ann")).await.expect("there is room");
    let held = watching.line().await.expect("the change");
    let expected = "hamlet  v2  RESERVATION_HELD ann, 1 unit  [OPEN: 1 held, 0 confirmed, 4 free, 0 waiting]";
    assert!(held.ends_with(expected), "{held}");
    cancel(&server, "hamlet").await;
    let cancelled = watching.line().await.expect("the change");
    assert!(cancelled.contains("v3  RESERVATION_CANCELLED ann"), "{cancelled}");
    assert!(watching.line().await.expect("the change").contains("v4  EVENT_CANCELLED  [CANCELLED: "));
    assert_eq!((watching.line().await, watching.code().await), (None, Some(0)));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_lost_connection_is_made_again_without_a_gap() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(&server.app.address.to_string()).await;
    server.event("hamlet", 5).await;
    let mut watching = Watching::start(&format!("http://{}", proxy.address), &["hamlet", "--json"]);
    let message = |line: Option<String>| -> Value {
        serde_json::from_str(&line.expect("a message")).expect("every line is JSON")
    };
    assert_eq!(message(watching.line().await)["snapshot"]["eventId"], "hamlet");
    proxy.cut();
    for user in ["ann", "bob"] {
        server.reservations().reserve(reserve("hamlet", user)).await.expect("there is room");
    }
    proxy.open();
    let mut users = Vec::new();
    while users.len() < 2 {
        let changes = message(watching.line().await)["changes"].take();
        let changes = changes.as_array().expect("changes, not the event as it is now").clone();
        users.extend(changes.into_iter().map(|change| change["reservation"]["userId"].clone()));
    }
    assert_eq!(users, ["ann", "bob"]);
    cancel(&server, "hamlet").await;
    while watching.line().await.is_some() {}
    assert_eq!(watching.code().await, Some(0));
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_changes_before_can_be_watched_too() {
    let server = TestServer::start().await;
    server.event("hamlet", 5).await;
    cancel(&server, "hamlet").await;
    let address = format!("http://{}", server.app.address);
    let mut watching = Watching::start(&address, &["hamlet", "--after-version", "0"]);
    assert!(watching.line().await.expect("the first change").contains("v1  EVENT_CREATED"));
    assert!(watching.line().await.expect("the second change").contains("v2  EVENT_CANCELLED"));
    assert_eq!((watching.line().await, watching.code().await), (None, Some(0)));
    server.check_and_stop().await;
}
