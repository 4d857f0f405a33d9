//! One-line requests of the waitlist.

use reservd::rpc::pb::{self, waitlist_entry_selector::Selector};
use tonic::Status;

use super::TestServer;

/// A request to wait for this quantity.
pub fn join(event_id: &str, user_id: &str, quantity: i32) -> pb::JoinWaitlistRequest {
    pb::JoinWaitlistRequest { event_id: event_id.into(), user_id: user_id.into(), quantity, ..Default::default() }
}

/// Selects the entry with this id.
pub fn entry_by_id(entry_id: &str) -> Option<pb::WaitlistEntrySelector> {
    Some(pb::WaitlistEntrySelector { selector: Some(Selector::EntryId(entry_id.into())) })
}

/// Selects the entry of a user.
pub fn entry_of_user(user_id: &str) -> Option<pb::WaitlistEntrySelector> {
    Some(pb::WaitlistEntrySelector { selector: Some(Selector::UserId(user_id.into())) })
}

/// A policy in strict order.
pub fn strict() -> pb::WaitlistPolicy {
    pb::WaitlistPolicy { enabled: true, ..Default::default() }
}

/// A policy that skips entries that are too large, up to this number of times.
pub fn skipping(max_skips: i32) -> pb::WaitlistPolicy {
    let order = pb::WaitlistOrder::SkipTooLarge.into();
    pb::WaitlistPolicy { order, max_skips: Some(max_skips), ..strict() }
}

impl TestServer {
    /// Creates an open event with a waitlist.
    pub async fn event_with_waitlist(&self, event_id: &str, capacity: i32, policy: pb::WaitlistPolicy) -> pb::Event {
        let waitlist = Some(policy);
        self.event_with(pb::Event { event_id: event_id.into(), capacity, waitlist, ..Default::default() }).await
    }

    pub async fn join(&self, request: pb::JoinWaitlistRequest) -> Result<pb::WaitlistEntry, Status> {
        let answer = self.waitlist().join_waitlist(request).await?.into_inner();
        Ok(answer.entry.expect("the response has the entry"))
    }

    pub async fn leave(&self, request: pb::LeaveWaitlistRequest) -> Result<pb::WaitlistEntry, Status> {
        let answer = self.waitlist().leave_waitlist(request).await?.into_inner();
        Ok(answer.entry.expect("the response has the entry"))
    }

    /// The user's current entry, with its position.
    pub async fn entry(&self, event_id: &str, user_id: &str) -> pb::GetWaitlistEntryResponse {
        let request = pb::GetWaitlistEntryRequest { event_id: event_id.into(), entry: entry_of_user(user_id) };
        self.waitlist().get_waitlist_entry(request).await.expect("the entry exists").into_inner()
    }

    /// The promoted users, in order.
    pub async fn promoted(&self, event_id: &str) -> Vec<String> {
        let users = "SELECT user_id FROM changes WHERE event_id = $1 AND kind = 'WAITLIST_PROMOTED' ORDER BY version";
        let users = sqlx::query_scalar(users).bind(event_id);
        users.fetch_all(&mut self.sql().await).await.expect("the history can be read")
    }
}
