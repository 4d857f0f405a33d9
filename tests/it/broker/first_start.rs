//! The first start with a RabbitMQ that has nothing of reservd yet.

use lapin::options::QueueDeclareOptions;

use crate::support::{TestBroker, TestDatabase, eventually, process::Process};

#[tokio::test]
async fn a_first_start_logs_no_error() {
    let (broker, database) = (TestBroker::new().await, TestDatabase::new().await);
    let settings = broker.settings().map(|(key, value)| format!("{key}={value}"));
    let server = Process::on(&database.url, &settings.each_ref().map(String::as_str)).await;
    let connection = broker.connect().await;
    eventually("commands can be sent", async || {
        // A queue that is not there closes the channel that asks for it.
        let channel = connection.create_channel().await.expect("a channel");
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = channel.queue_declare(broker.commands.as_str().into(), passive, Default::default()).await;
        found.is_ok_and(|queue| queue.consumer_count() > 0)
    })
    .await;
    let before = server.log().to_vec();
    let log = [before, server.stop().await].concat();
    let bad: Vec<_> = log.iter().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(log.iter().any(|line| line.contains("\"level\":\"INFO\"")), "{log:?}");
}
