//! A watch of an event, which checks the rules for every message.

use reservd::rpc::pb;
use tonic::{Status, Streaming};

use super::{TestServer, metadata, reason, soon, watch_of};

/// An open watch.
pub struct Watcher {
    messages: Streaming<pb::WatchChangesResponse>,
    /// The last version that was received.
    pub version: i64,
    /// The changes so far.
    pub changes: Vec<pb::Change>,
}

impl TestServer {
    /// Watches an event from its current state, and returns that too.
    pub async fn watch(&self, event_id: &str) -> (Watcher, pb::Event) {
        let request = watch_of(event_id, None);
        let messages = self.feed().watch_changes(request).await.expect("an event can be watched").into_inner();
        let mut watcher = Watcher { messages, version: 0, changes: Vec::new() };
        let first = watcher.receive().await.expect("a snapshot").expect("comes first");
        let snapshot = first.snapshot.expect("it is the event");
        assert_eq!((snapshot.version, first.changes.len()), (first.version, 0));
        (watcher, snapshot)
    }

    /// Watches an event after a version.
    pub async fn watch_after(&self, event_id: &str, version: i64) -> Result<Watcher, Status> {
        let request = watch_of(event_id, Some(version));
        let messages = self.feed().watch_changes(request).await?.into_inner();
        Ok(Watcher { messages, version, changes: Vec::new() })
    }
}

impl Watcher {
    pub fn new(messages: Streaming<pb::WatchChangesResponse>, version: i64) -> Self {
        Self { messages, version, changes: Vec::new() }
    }

    /// The next message, heartbeats included; none at the end of the stream.
    pub async fn receive(&mut self) -> Result<Option<pb::WatchChangesResponse>, Status> {
        let Some(message) = soon("a message arrives", self.messages.message()).await? else { return Ok(None) };
        assert!(message.server_time.is_some());
        if message.event_id.is_empty() {
            let server_time = message.server_time;
            assert_eq!(message, pb::WatchChangesResponse { server_time, ..Default::default() }, "a heartbeat");
            return Ok(Some(message));
        }
        if message.snapshot.is_none() {
            for change in &message.changes {
                assert_eq!(change.version, self.version + 1, "a gap or a repetition");
                self.version = change.version;
            }
            assert_eq!(message.version, self.version, "the version is that of the last change");
        }
        if let Some(counts) = &message.counts {
            assert_eq!(counts.available, counts.capacity - counts.held - counts.confirmed);
        }
        self.version = message.version;
        self.changes.extend(message.changes.iter().cloned());
        Ok(Some(message))
    }

    /// Reads until a version has arrived; returns the last message.
    pub async fn until(&mut self, version: i64) -> pb::WatchChangesResponse {
        soon(&format!("version {version} arrives"), async {
            loop {
                let message = self.receive().await.expect("no error").expect("no end");
                if self.version >= version {
                    return message;
                }
            }
        })
        .await
    }

    /// Reads until the stream fails.
    pub async fn failure(&mut self) -> Status {
        soon("the watch ends", async {
            loop {
                match self.receive().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without an error"),
                    Err(status) => return status,
                }
            }
        })
        .await
    }

    /// Reads until the stream ends without an error.
    pub async fn ends_well(&mut self) {
        soon("the watch ends", async { while self.receive().await.expect("no error").is_some() {} }).await;
    }

    /// Reads until the stream fails with this reason, and checks how much was sent.
    pub async fn ends_for(&mut self, why: &str) -> Status {
        let status = self.failure().await;
        assert_eq!(reason(&status), why, "{status:?}");
        if let Some(sent) = metadata(&status).get("sent_version") {
            assert_eq!(*sent, self.version.to_string(), "nothing was lost on its way");
        }
        status
    }

    /// The kinds of the changes so far; those of reservations without that word.
    pub fn kinds(&self) -> Vec<&'static str> {
        let name = |change: &pb::Change| {
            change.kind().as_str_name().trim_start_matches("CHANGE_KIND_").trim_start_matches("RESERVATION_")
        };
        self.changes.iter().map(name).collect()
    }
}
