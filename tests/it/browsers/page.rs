//! A page in Chromium, which calls with Connect's client for gRPC-Web.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    TestServer,
    process::{TempFolder, checkout, finish, tool},
    supervised::free_ports,
};

/// Opens a page on each of two origins, and returns what happened to its calls.
async fn open_pages(server: &str, ports: [u16; 2]) -> Vec<Value> {
    let folder = TempFolder::new();
    let generator = checkout(".tools/node/node_modules/.bin/protoc-gen-es");
    let out = folder.path("gen");
    let template = format!(
        "version: v2\nplugins:\n  - local: {}\n    out: {}\n    opt: target=js\n",
        generator.display(),
        out.display()
    );
    let mut generate = tool("node/node_modules/.bin/buf");
    generate.arg("generate").arg(checkout("proto")).args(["--template", &folder.file("buf.gen.yaml", template)]);
    generate.env("BUF_CACHE_DIR", folder.path("buf"));
    let output = finish(generate).await;
    assert_eq!(output.code, Some(0), "{output:?}");

    let mut drive = Command::new("node");
    drive
        .arg(checkout("tests/clients/browser/drive.js"))
        .arg(server)
        .arg(&out)
        .args(ports.map(|port| port.to_string()));
    drive.env("NODE_PATH", checkout(".tools/node/node_modules")).env("TMPDIR", folder.path("")).kill_on_drop(true);
    let output = finish(drive).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    output.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The page of the first port may call, and that of the second may not.
async fn assert_only_the_first_calls(server: TestServer, scheme: &str, ports: [u16; 2]) {
    let mut seen = open_pages(&format!("{scheme}://{}", server.app.address), ports).await;
    let id = seen[0]["reservationId"].take();
    assert!(id.as_str().is_some_and(|id| id.len() == 36), "{seen:?}");
    // The event, Ann's hold and Bob's, each in turn.
    let expected = json!({"reservationId": null, "refused": "ALREADY_RESERVED", "versions": [1, 2, 3]});
    assert_eq!(seen[0], expected);
    assert_eq!(seen[1], json!({"failed": "ConnectError: [unknown] Failed to fetch"}));
    let events = server.events().list_events(reservd::rpc::pb::ListEventsRequest::default()).await.expect("it answers");
    assert_eq!(events.into_inner().events.len(), 1, "what the other page sent was not executed");
    server.app.stop().await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_reserves_learns_why_not_and_watches() {
    let ports: [u16; 2] = free_ports();
    let allowed = format!("[\"http://127.0.0.1:{}\"]", ports[0]);
    let server = TestServer::with(&[("web.allowed_origins", &allowed)]).await;
    assert_only_the_first_calls(server, "http", ports).await;
}

/// With TLS a browser speaks HTTP/2.
#[tokio::test]
async fn a_page_calls_over_tls_too() {
    let (ports, folder): ([u16; 2], _) = (free_ports(), TempFolder::new());
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) =
        (folder.file("server.pem", pair.cert.pem()), folder.file("server.key", pair.signing_key.serialize_pem()));
    let allowed = format!("[\"http://127.0.0.1:{}\"]", ports[0]);
    let settings = [("web.allowed_origins", allowed.as_str()), ("tls.certificate", &certificate), ("tls.key", &key)];
    let database = crate::support::TestDatabase::new().await;
    let app = reservd::app::App::start(&crate::support::config(&database, &settings)).await.expect("it starts");
    let seen = open_pages(&format!("https://{}", app.address), ports).await;
    assert_eq!(
        (&seen[0]["refused"], &seen[0]["versions"]),
        (&json!("ALREADY_RESERVED"), &json!([1, 2, 3])),
        "{seen:?}"
    );
    assert_eq!(seen[1], json!({"failed": "ConnectError: [unknown] Failed to fetch"}));
    app.stop().await;
}
