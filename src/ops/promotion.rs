//! Promotion: offers free units to waitlists where no command does so, for example when booking opens by the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ledger, OpError, execute::execute_own};
use crate::{
    domain::{
        caller::Caller,
        command::{Action, Command},
    },
    store::waitlist,
};

/// How long one run may take.
const RUN_LIMIT: Duration = Duration::from_secs(10);

impl Ledger {
    /// Promotes entries of up to `limit` events where free units fit a waiting entry whose turn it is, and returns the
    /// number of events.
    ///
    /// Every command that frees units promotes in its own commit. Only units that became free without a command are
    /// left.
    pub async fn promote_waiting(&self, limit: u32) -> Result<u32, OpError> {
        let ledger = self.clone();
        self.env
            .spawn_tracked(async move {
                let deadline = Instant::now() + RUN_LIMIT;
                let mut conn = ledger.env.database.lease(deadline).await?;
                let unserved = waitlist::unserved(&mut conn, limit).await?;
                conn.give_back();
                let promote = |event_id| Command {
                    event_id,
                    action: Action::Promote,
                    etag: None,
                    expected_event_version: None,
                    request: None,
                    caller: Caller::default(),
                };
                let commands = unserved.into_iter().map(promote).collect();
                let promoted = execute_own(&ledger.env, commands, deadline, ledger.env.settings.max_lock_wait).await?;
                Ok(u32::try_from(promoted.len()).unwrap_or(u32::MAX))
            })
            .await
    }
}
