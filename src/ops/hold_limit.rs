//! The limit of live holds that one user may have over all events.
//!
//! Events are locked one by one, so no lock covers all events of a user. Instead, while there is a limit, the Reserves
//! of one user take turns on this server. Each counts the user's live holds before it runs, and passes to `decide`
//! whether the limit is reached. So `decide` refuses only a Reserve that it would else accept, and a repetition still
//! gets its first answer. The limit is exact on one server; of calls that arrive at n servers at the same moment,
//! n - 1 more may get through.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::timeout_at};

use super::{
    Ledger, OpError,
    execute::{Answer, ExecOptions},
};
use crate::{
    domain::{
        command::{Action, Command, Reserve, ReserveMode},
        ids::UserId,
    },
    store::reservations,
};

type Turns = HashMap<UserId, Arc<tokio::sync::Mutex<()>>>;

/// The limit, and the turns of the users.
#[derive(Clone, Default)]
pub(super) struct HoldLimit {
    /// 0: none.
    limit: u32,
    turns: Arc<Mutex<Turns>>,
}

/// A user's turn.
pub(super) struct Turn {
    user: UserId,
    turns: Arc<Mutex<Turns>>,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        // One reference is the table's, one the guard's: no other call waits.
        if turns.get(&self.user).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            turns.remove(&self.user);
        }
    }
}

impl HoldLimit {
    pub(super) fn of(limit: u32) -> Self {
        Self { limit, turns: Arc::default() }
    }

    /// Whether the limit applies to this command.
    pub(super) const fn applies_to(&self, command: &Command) -> bool {
        self.limit > 0 && matches!(&command.action, Action::Reserve(Reserve { mode: ReserveMode::Hold(_), .. }))
    }

    async fn turn(&self, user: &UserId) -> Turn {
        let turn = Arc::clone(self.turns.lock().entry(user.clone()).or_default());
        Turn { user: user.clone(), turns: Arc::clone(&self.turns), _turn: turn.lock_owned().await }
    }
}

impl Ledger {
    /// Executes a Reserve in its user's turn, with whether the user has reached the limit. It runs in a task of its
    /// own: the turn lasts until the command is done, even if the caller hangs up.
    pub(super) async fn execute_in_turn(&self, mut command: Command, options: ExecOptions) -> Result<Answer, OpError> {
        let Action::Reserve(wish) = &command.action else { return self.execute_now(command, options).await };
        let (ledger, user, limit) = (self.clone(), wish.user_id.clone(), self.hold_limit.limit);
        self.env
            .spawn_tracked(async move {
                let turn = timeout_at(options.deadline, ledger.hold_limit.turn(&user)).await;
                let _turn = turn.map_err(|_| OpError::Deadline)?;
                let count = ledger.read(options.deadline, move |conn| {
                    Box::pin(async move { reservations::live_holds(conn, &user, limit).await })
                });
                command.caller.hold_limit_reached = (count.await? >= i64::from(limit)).then_some(limit);
                ledger.execute_now(command, options).await
            })
            .await
    }
}
