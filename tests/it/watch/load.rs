//! Watches while servers are killed and start again.

use reservd::rpc::pb::{self, feed_service_client::FeedServiceClient};

use crate::support::{
    TestDatabase, TestServer, Watcher, eventually,
    process::{Process, clients},
    reserve, watch_of,
};

#[tokio::test]
async fn watchers_that_reconnect_after_a_kill_see_no_gap() {
    let database = TestDatabase::new().await;
    let mut server = Process::on(&database.url, &[]).await;
    let event = pb::Event { event_id: "e".into(), capacity: 10_000, ..Default::default() };
    let request = pb::CreateEventRequest { event: Some(event), ..Default::default() };
    clients(&server.connect().await).0.create_event(request).await.expect("the event is created");
    let mut seen: Vec<pb::Change> = Vec::new();
    for round in 0..3 {
        let version = i64::try_from(seen.len()).expect("few");
        let request = watch_of("e", Some(version));
        let channel = server.connect().await;
        let mut client = clients(&channel).1;
        let mut feed = FeedServiceClient::new(channel);
        let messages = feed.watch_changes(request).await.expect("it is kept").into_inner();
        let mut watcher = Watcher::new(messages, version);
        let load = tokio::spawn(async move {
            for number in 0.. {
                if client.reserve(reserve("e", &format!("u{round}-{number}"))).await.is_err() {
                    break;
                }
            }
        });
        watcher.until(version + 50).await;
        server.kill().await;
        // Messages that were still on their way count as well; then the connection is gone.
        while let Ok(Some(_)) = watcher.receive().await {}
        load.await.expect("it ends with the connection");
        seen.append(&mut watcher.changes);
        server = Process::on(&database.url, &[]).await;
    }
    server.stop().await;
    let server = TestServer::on(database, &[]).await;
    let mut watcher = server.watch_after("e", i64::try_from(seen.len()).expect("few")).await.expect("it is kept");
    let version = server.get_event("e").await.version;
    if watcher.version < version {
        watcher.until(version).await;
    }
    seen.append(&mut watcher.changes);
    assert_eq!(seen, super::listed(&server, "e").await);
    eventually("the watch is known", async || server.metric("reservd_watches").await == 1.0).await;
    server.check_and_stop().await;
}
