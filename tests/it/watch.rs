//! WatchChanges: every change, in order, once, from any version and under concurrent commands.

mod begin;
mod end;
mod load;

use reservd::rpc::pb;

use crate::support::{TestServer, of_user, reserve};

/// Reserves one unit for each user.
async fn reserve_for(server: &TestServer, event_id: &str, users: impl IntoIterator<Item = impl AsRef<str>>) {
    for user in users {
        server.reserve(reserve(event_id, user.as_ref())).await.expect("there is room");
    }
}

async fn cancel(server: &TestServer, event_id: &str, user_id: &str) {
    let (event_id, reservation) = (event_id.to_owned(), of_user(user_id));
    let request = pb::CancelRequest { event_id, reservation, ..Default::default() };
    server.cancel(request).await.expect("there is one to cancel");
}

async fn cancel_event(server: &TestServer, event_id: &str) {
    let request = pb::CancelEventRequest { event_id: event_id.into(), ..Default::default() };
    server.events().cancel_event(request).await.expect("it can be cancelled");
}

/// A reservation of about eight thousand bytes.
fn large(event_id: &str, user_id: &str) -> pb::ReserveRequest {
    let labels = (0..30).map(|number| (format!("k{number}"), "x".repeat(256))).collect();
    pb::ReserveRequest { labels, ..reserve(event_id, user_id) }
}

/// All changes of an event according to ListChanges.
async fn listed(server: &TestServer, event_id: &str) -> Vec<pb::Change> {
    let (mut changes, mut page_token) = (Vec::new(), String::new());
    loop {
        let event_id = event_id.to_owned();
        let request = pb::ListChangesRequest { event_id, page_size: 1000, page_token, ..Default::default() };
        let page = server.feed().list_changes(request).await.expect("a page").into_inner();
        changes.extend(page.changes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return changes;
        }
    }
}
