//! The waitlist as one line each.

use reservd::rpc::pb::{self, waitlist_entry_selector::Selector};
use tonic::Status;

use super::TestServer;

/// A place in the line for a party of this size.
pub fn join(event_id: &str, user_id: &str, quantity: i32) -> pb::JoinWaitlistRequest {
    pb::JoinWaitlistRequest { event_id: event_id.into(), user_id: user_id.into(), quantity, ..Default::default() }
}

/// The entry of this id.
pub fn entry_by_id(entry_id: &str) -> Option<pb::WaitlistEntrySelector> {
    Some(pb::WaitlistEntrySelector { selector: Some(Selector::EntryId(entry_id.into())) })
}

/// The entry of a user.
pub fn entry_of_user(user_id: &str) -> Option<pb::WaitlistEntrySelector> {
    Some(pb::WaitlistEntrySelector { selector: Some(Selector::UserId(user_id.into())) })
}

/// A waitlist that passes nobody over.
pub fn strict() -> pb::WaitlistPolicy {
    pb::WaitlistPolicy { enabled: true, ..Default::default() }
}

/// A waitlist that passes over parties too large, so often.
pub fn skipping(max_skips: i32) -> pb::WaitlistPolicy {
    let order = pb::WaitlistOrder::SkipTooLarge.into();
    pb::WaitlistPolicy { order, max_skips: Some(max_skips), ..strict() }
}

impl TestServer {
    /// An open event with a waitlist.
    pub async fn event_with_line(&self, event_id: &str, capacity: i32, policy: pb::WaitlistPolicy) -> pb::Event {
        let waitlist = Some(policy);
        self.event_with(pb::Event { event_id: event_id.into(), capacity, waitlist, ..Default::default() }).await
    }

    pub async fn join(&self, request: pb::JoinWaitlistRequest) -> Result<pb::WaitlistEntry, Status> {
        let answer = self.waitlist().join_waitlist(request).await?.into_inner();
        Ok(answer.entry.expect("it answers with the entry"))
    }

    pub async fn leave(&self, request: pb::LeaveWaitlistRequest) -> Result<pb::WaitlistEntry, Status> {
        let answer = self.waitlist().leave_waitlist(request).await?.into_inner();
        Ok(answer.entry.expect("it answers with the entry"))
    }

    /// The user's entry as it is now, with its place in the line.
    pub async fn entry(&self, event_id: &str, user_id: &str) -> pb::GetWaitlistEntryResponse {
        let request = pb::GetWaitlistEntryRequest { event_id: event_id.into(), entry: entry_of_user(user_id) };
        self.waitlist().get_waitlist_entry(request).await.expect("the entry is there").into_inner()
    }

    /// The users who were promoted, in order.
    pub async fn promoted(&self, event_id: &str) -> Vec<String> {
        let users = "SELECT user_id FROM changes WHERE event_id = $1 AND kind = 'WAITLIST_PROMOTED' ORDER BY version";
        let users = sqlx::query_scalar(users).bind(event_id);
        users.fetch_all(&mut self.sql().await).await.expect("the history can be read")
    }
}
